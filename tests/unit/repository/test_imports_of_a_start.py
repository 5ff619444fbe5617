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


#: Begins and ends as under uvicorn, without the gateway, which needs a database.
WEB = """
import asyncio, gc, sys
from ginkgo_site import asgi
from django.urls import get_resolver
get_resolver().url_patterns

async def nothing():
    pass

async def receive(coming=iter(("startup", "shutdown"))):
    return {"type": f"lifespan.{next(coming)}"}

async def send(message):
    print(message["type"], gc.get_freeze_count() > len(gc.get_objects()))

asgi.open_gateway = asgi.close_gateway = nothing
gc.unfreeze()
asyncio.run(asgi.application({"type": "lifespan"}, receive, send))
"""


@pytest.fixture(scope="module")
def web() -> list[str]:
    """Return the words that a web process prints: its answers, and the modules it imported."""
    return printed_by(WEB + IMPORTED)


def test_a_web_process_imports_nothing_slow_that_few_installations_use(web: list[str]) -> None:
    assert "scheduling" in web
    assert not SLOW & set(web)


def test_startup_of_a_web_process_freezes_imported_objects(web: list[str]) -> None:
    assert web[:4] == ["lifespan.startup.complete", "True", "lifespan.shutdown.complete", "True"]


SET_UP = """
import gc, sys
from ginkgo_site.django_start import set_up_django
set_up_django()
print(gc.isenabled(), gc.get_freeze_count() > 10 * len(gc.get_objects()))
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def set_up() -> list[str]:
    """Return what a process prints that has set up Django."""
    return printed_by(SET_UP)


def test_a_command_does_not_import_the_admin_or_what_its_pages_need(set_up: list[str]) -> None:
    imported = set(set_up)
    assert "scheduling.models" in imported
    assert not imported & {"scheduling.admin", "scheduling.operations", "scheduling.presentation"}


def test_garbage_collection_skips_imported_objects_but_not_later_ones(set_up: list[str]) -> None:
    assert set_up[:2] == ["True", "True"]


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
