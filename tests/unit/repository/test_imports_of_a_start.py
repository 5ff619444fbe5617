"""What a web process imports at its start, and what a node imports before its forkserver starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ginkgo_site.env import CHECKOUT

START = """
import sys, ginkgo_site.asgi
from django.urls import get_resolver
get_resolver().url_patterns
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
#: Each takes 0.1 s or more, and hundreds of processes start while a fleet is tested.
SLOW = {"aiohttp", "apprise", "jsonschema", "nats", "pandas", "pyarrow", "rich"}


def test_a_web_process_imports_nothing_slow_that_few_installations_use() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", START],
        cwd=CHECKOUT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings"},
        capture_output=True,
        check=True,
        text=True,
    )
    imported = set(answer.stdout.split())
    assert "scheduling" in imported
    assert not imported & SLOW


NODE = """
import sys
from scheduling.node_daemon import cli, forkserver_client

def launch(self):
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
    sys.exit(0)

forkserver_client.ForkserverClient.launch = launch
cli.main(["--name", "n", "--server", "http://127.0.0.1:9", "--token", "t"])
"""


def test_a_node_starts_its_forkserver_before_it_imports_the_rest(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", NODE],
        cwd=CHECKOUT,
        env={**os.environ, "GINKGO_HOME": str(tmp_path)},
        capture_output=True,
        check=True,
        text=True,
    )
    imported = set(answer.stdout.split())
    assert "scheduling" in imported
    assert not imported & {"aiohttp", "psutil", "uvloop"}
