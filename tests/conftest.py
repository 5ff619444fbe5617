"""One PostgreSQL for the whole test session, shared by all xdist workers."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ginkgo_site.database import django_database
from ginkgo_site.launcher.postgres import EmbeddedPostgres

_URL = "GINKGO_TEST_DATABASE_URL"

# The same examples every time, so that a run says something of the change under test. To look for
# new ones: HYPOTHESIS_PROFILE=explore bin/test tests/properties
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_configure(config: pytest.Config) -> None:
    """Start the server in the one process that starts the others."""
    if hasattr(config, "workerinput"):
        return
    # As Ctrl-C does, so that houses end with the run; one in the background hears no Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if os.environ.get(_URL):
        return
    # Not below pytest's own folder: that has mode 700, and as root the server is another user.
    home = Path(tempfile.mkdtemp(prefix="ginkgo-test-"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home)
    server.prepare()
    server.start()
    server.wait_until_ready()
    # As superuser: tests set the clock of the database and take rights from roles. What the product
    # may do with its own role, whole installations show (tests/acceptance).
    os.environ[_URL] = server.admin_url  # workers inherit it

    def end() -> None:
        del os.environ[_URL]
        server.stop()
        shutil.rmtree(home, ignore_errors=True)

    config.add_cleanup(end)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Point Django at the session's server before pytest-django makes the test database."""
    from django.db import connections

    settings = django_database(os.environ[_URL])
    settings["TEST"] = connections["default"].settings_dict["TEST"]
    connections["default"].settings_dict.update(settings)


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Hash passwords at no cost in the process of the tests: they make hundreds of people, and a
    hash is slow on purpose. Houses are processes of their own and hash as the product does."""
    from django.test import override_settings

    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def idle_as_long_as_a_test() -> Iterator[None]:
    """Let a transaction stand idle for as long as a test needs: most tests run inside one."""
    from scheduling.enact import recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "IDLE_LIMIT", "60s")
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """Empty tables row by row after a test that commits: there are few rows and many tables, and to
    truncate one makes new files for it and for each of its indexes."""
    from django.db.backends.postgresql.operations import DatabaseOperations

    def sql_flush(
        _: DatabaseOperations, style: object, tables: list[str], **how: bool
    ) -> list[str]:
        deletes = "; ".join(f'DELETE FROM "{table}"' for table in tables)
        return [f"SET LOCAL session_replication_role = replica; {deletes}"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "sql_flush", sql_flush)
        yield


@pytest.fixture(scope="session", autouse=True)
def static_files_when_asked_for() -> Iterator[None]:
    """Look for a static file when it is asked for: each client of a test would list them all."""
    from django.test import override_settings

    with override_settings(WHITENOISE_AUTOREFRESH=True):
        yield
