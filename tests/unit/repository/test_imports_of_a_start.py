"""A web process imports nothing slow at its start that few installations use."""

from __future__ import annotations

import os
import subprocess
import sys

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
