"""What a process imports at its start, and what its garbage collector looks at."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib import admin
from django.core.checks import Tags, run_checks

from ginkgo_site import apps
from tests.support.python_process import run_python

#: Each takes 0.1 s or more, and hundreds of processes start while a fleet is tested.
SLOW = {"aiohttp", "apprise", "jsonschema", "nats", "pandas", "pyarrow", "rich"}
IMPORTED = 'print(*sorted({name.partition(".")[0] for name in sys.modules}))'


def printed_by(program: str, **environment: str) -> list[str]:
    """Run a Python program, and return the words that it prints."""
    done = run_python("-c", program, DJANGO_SETTINGS_MODULE="ginkgo_site.settings", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_web_process_imports_nothing_slow_that_few_installations_use() -> None:
    start = (
        "import sys, ginkgo_site.asgi\n"
        "from django.urls import get_resolver\n"
        "get_resolver().url_patterns\n"
    )
    imported = set(printed_by(start + IMPORTED))
    assert "scheduling" in imported
    assert not imported & SLOW


SET_UP = """
import sys
from ginkgo_site.django_start import set_up_django
set_up_django()
print(*sys.modules)
"""


def test_a_command_does_not_import_the_admin_or_what_its_pages_need() -> None:
    imported = set(printed_by(SET_UP))
    assert "scheduling.models" in imported
    assert not imported & {"scheduling.admin", "scheduling.operations", "scheduling.presentation"}


def test_the_checks_of_the_admin_import_its_pages_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(admin, "autodiscover", lambda: order.append("pages"))
    monkeypatch.setattr(apps, "check_admin_app", lambda *_, **__: order.append("checks") or [])
    run_checks(tags=[Tags.admin])
    assert order == ["pages", "checks"]


NODE = f"""
import sys
from scheduling.node_daemon import cli, forkserver_client

def launch(self):
    {IMPORTED}
    sys.exit(0)

forkserver_client.ForkserverClient.launch = launch
cli.main(["--name", "n", "--server", "http://127.0.0.1:9", "--token", "t"])
"""


def test_a_node_starts_its_forkserver_before_it_imports_the_rest(tmp_path: Path) -> None:
    imported = set(printed_by(NODE, GINKGO_HOME=str(tmp_path)))
    assert "scheduling" in imported
    assert not imported & {"aiohttp", "psutil", "uvloop"}


COLLECTED = """
import gc
from ginkgo_site.django_start import set_up_django
set_up_django()
print(gc.isenabled(), gc.get_freeze_count() > 10 * len(gc.get_objects()))
"""


def test_garbage_collection_skips_imported_objects_but_not_later_ones() -> None:
    assert printed_by(COLLECTED) == ["True", "True"]
