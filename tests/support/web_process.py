"""A real web process on the test database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection

from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.processes import end_process
from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher.address import free_address


@contextmanager
def running_web_process(folder: Path, **environment: str) -> Iterator[str]:
    """Run a web process as bin/up starts it, with its log in `folder`. Yield its address."""
    port = free_address("127.0.0.1", 0).port
    argv = [sys.executable, "-m", "uvicorn", "ginkgo_site.asgi:application"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--lifespan", "on", "--no-proxy-headers"]
    argv += ["--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "1"]
    given = site_environment(GINKGO_HOME=str(folder), **environment)
    with open(folder / "web.log", "w") as log:
        process = subprocess.Popen(argv, cwd=CHECKOUT, env=given, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SLOW_MACHINE_S
        while not _answers(f"{url}/api/readyz"):
            assert process.poll() is None, (folder / "web.log").read_text()
            assert time.monotonic() < deadline, (folder / "web.log").read_text()
            time.sleep(0.05)
        yield url
    finally:
        end_process(process, SLOW_MACHINE_S)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def site_environment(**more: str) -> dict[str, str]:
    """Return the environment of a process that uses the test database and this checkout."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
        "PYTHONPATH": str(CHECKOUT),
        **more,
    }


def failing_at(*points: str) -> dict[str, str]:
    """Return the variables that arm these failpoints, each NAME=ACTION; {} without any."""
    return {"GINKGO_REHEARSAL": "yes", "GINKGO_FAILPOINTS": ",".join(points)} if points else {}


def database_url() -> str:
    settings = connection.settings_dict
    host, port = quote(settings["HOST"], safe=""), settings["PORT"] or "5432"
    return f"postgresql://{settings['USER']}@/{settings['NAME']}?host={host}&port={port}"


def set_real_password(name: str, password: str) -> None:
    """Set a password with the product's hasher; the tests' own hasher is a fast one."""
    hasher = PBKDF2PasswordHasher()
    get_user_model().objects.filter(username=name).update(
        password=hasher.encode(password, hasher.salt())
    )
