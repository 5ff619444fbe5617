"""One PostgreSQL for all xdist workers, the order of test files, and Hypothesis profiles."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db.backends.signals import connection_created
from hypothesis import settings
from psycopg import sql

from ginkgo_site.database import django_database
from ginkgo_site.launcher.postgres import EmbeddedPostgres
from ginkgo_site.launcher.postgres import server as embedded
from ginkgo_site.sessions import SESSION_LIMITS

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_URL = "GINKGO_TEST_DATABASE_URL"
#: Of a server that ends with the run: the name of the database that one of the workers migrated.
_TEMPLATE = "GINKGO_TEST_DATABASE_TEMPLATE"
#: The folder of the server's programs, to run on another version than the one that is brought.
_PROGRAMS = "GINKGO_TEST_POSTGRES"

FLEETING = {"fsync": "off", "full_page_writes": "off"}

# The same examples every time, so that a run says something of the change under test. To look for
# new ones: HYPOTHESIS_PROFILE=explore bin/test tests/properties
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None)
settings.register_profile("fast", derandomize=True, deadline=None, database=None, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


#: Layers of tests that use no database, or one of an installation.
WITHOUT_SERVER = {"acceptance", "properties", "unit"}


def pytest_configure(config: pytest.Config) -> None:
    """Start the server in the process that starts the workers, which share it."""
    gc.disable()  # until the tests are collected: imports make next to no garbage
    if programs := os.environ.get(_PROGRAMS):
        embedded.reachable_binaries = lambda *_: Path(programs)
    if hasattr(config, "workerinput"):
        return
    # As Ctrl-C does, so that installations end with the run; one in the background hears no Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if getattr(config.option, "numprocesses", None) and _need_server(config.args):
        opened = ExitStack()
        opened.enter_context(open_server())
        config.add_cleanup(opened.close)


@pytest.hookimpl(trylast=True)  # pytest-django sorts the tests of a file
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order files for the workers, which take the next one when they are free.

    Files with slow tests first: these mostly wait, and the others use the processors meanwhile.
    Then the files with most tests: with small ones the workers end at about the same time.
    """
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path], item.path))


def pytest_collection_finish() -> None:
    """Let the garbage collector run seldom, and skip all that exists before the first test."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def _need_server(paths: list[str]) -> bool:
    """Return whether any of the paths to collect may have tests of the database."""
    here = Path(__file__).parent
    layers = {Path(path.partition("::")[0]).absolute() for path in paths}
    return not all(any(here / name in (p, *p.parents) for name in WITHOUT_SERVER) for p in layers)


@contextmanager
def open_server() -> Iterator[None]:
    """Run a server while this is open, unless the environment names one already."""
    if os.environ.get(_URL):
        yield
        return
    # Not below pytest's own folder: that has mode 700, and as root the server is another user.
    home = Path(tempfile.mkdtemp(prefix="ginkgo-test-"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home)
    with pytest.MonkeyPatch.context() as patch:
        # Nothing of it outlives the run: a commit need not wait for the disk.
        patch.setattr(embedded, "SETTINGS", embedded.SETTINGS | FLEETING)
        server.start()
    server.wait_until_ready()
    # As superuser: tests set the clock of the database and take rights from roles. What the product
    # may do with its own role, whole installations show (tests/acceptance).
    os.environ |= {_URL: server.admin_url, _TEMPLATE: "migrated"}  # workers inherit it
    try:
        yield
    finally:
        del os.environ[_URL], os.environ[_TEMPLATE]
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def database_server() -> Iterator[None]:
    """Start the server at the first test that needs it, if no other process has."""
    with open_server():
        yield


@pytest.fixture(scope="session")
def making_database(database_server: None) -> ExitStack:
    """Return a stack of contexts that is closed once the test database has been made."""
    return ExitStack()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    making_database: ExitStack, django_db_modify_db_settings_parallel_suffix: None
) -> Iterator[None]:
    """Point Django at the session's server before pytest-django makes the test database."""
    from django.db import connections

    # Most tests run inside one transaction, and on a busy machine the first to open the log of bars
    # is idle in it for longer than the product allows.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SESSION_LIMITS, "idle_in_transaction_session_timeout", "10min")
        settings = django_database(os.environ[_URL])
        settings["TEST"] = connections["default"].settings_dict["TEST"]
        # A test opens thousands of sessions, and a busy machine may take seconds to answer one.
        settings["OPTIONS"]["connect_timeout"] = "10"
        # PostgreSQL would spend more time on plans than on all else: it makes one for a statement.
        settings["OPTIONS"]["prepare_threshold"] = 1
        settings["OPTIONS"]["options"] += " -c plan_cache_mode=force_generic_plan"
        connection_created.connect(keep_prepared_statements)
        connections["default"].settings_dict.update(settings)
        if template := os.environ.get(_TEMPLATE):
            migrate_once(template, settings["TEST"], making_database)
        yield


def keep_prepared_statements(connection: BaseDatabaseWrapper, **_: object) -> None:
    """Have a session keep its statements when a test is rolled back: what they name stays."""
    prepared = connection.connection._prepared
    prepared.clear = lambda: False
    prepared.prepared_max = 10_000


def migrate_once(template: str, settings: dict[str, Any], making: ExitStack) -> None:
    """Migrate `template` in one worker; each other worker copies it, by its `settings`."""
    from django.core.management.commands import migrate
    from django.db import connection

    session = making.enter_context(psycopg.connect(os.environ[_URL], autocommit=True))
    session.execute("SELECT pg_advisory_lock(1)")  # until it is made
    known = session.execute("SELECT FROM pg_database WHERE datname = %s", [template]).rowcount
    if known:
        settings["TEMPLATE"] = template
        patch = making.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(migrate.Command, "handle", lambda *_, **__: None)
        return

    def keep() -> None:
        connection.close()  # nobody may be connected to what is copied
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(template), sql.Identifier(connection.settings_dict["NAME"])
        )
        session.execute(copy)

    making.callback(keep)


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Hash passwords quickly in the process of the tests, which makes hundreds of users.

    Installations are other processes and hash as the product does, slowly on purpose.
    """
    from django.test import override_settings

    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def idle_as_long_as_a_test() -> Iterator[None]:
    """Let a transaction stand idle for as long as a test needs: most tests run inside one."""
    from scheduling.db import transaction

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "IDLE_LIMIT", "60s")
        yield


@pytest.fixture(scope="session")
def django_db_setup(
    making_database: ExitStack, django_db_setup: None, django_db_blocker: Any
) -> Iterator[None]:
    """Make the database, and bring it back to what it is now after each test that commits.

    Row by row: there are few rows and many tables, and to truncate one makes new files for it and
    for each of its indexes. Migrations and the signal after them made some rows, which are written
    back as they were: the signal itself would make them again by 170 queries.
    """
    from django.core.management.commands import flush
    from django.db import connection
    from django.db.backends.postgresql.operations import DatabaseOperations

    from tests.support.kept_rows import AS_THEY_ARE, statements_of

    with django_db_blocker.unblock():
        making_database.close()
        tables = connection.introspection.django_table_names(
            only_existing=True, include_views=False
        )
        statements = "; ".join([AS_THEY_ARE, *statements_of(tables).values()])

    def sql_flush(
        _: DatabaseOperations, style: object, tables: list[str], **how: bool
    ) -> list[str]:
        return [statements]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "sql_flush", sql_flush)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_, **__: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def static_files_when_asked_for() -> Iterator[None]:
    """Look for a static file when it is asked for: each client of a test would list them all."""
    from django.test import override_settings

    with override_settings(WHITENOISE_AUTOREFRESH=True):
        yield
