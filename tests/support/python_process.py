"""Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from ginkgo_site.env import CHECKOUT


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout, with these variables besides those of the tests."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
