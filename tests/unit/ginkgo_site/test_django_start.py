"""The garbage collector does not look at what a process imports at its start."""

from __future__ import annotations

import os
import subprocess
import sys

from ginkgo_site.env import CHECKOUT

START = """
import gc
from ginkgo_site.django_start import set_up_django
set_up_django()
print(gc.isenabled(), gc.get_freeze_count() > 10 * len(gc.get_objects()))
"""


def test_what_is_imported_is_not_collected_and_what_comes_later_is() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", START],
        cwd=CHECKOUT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert answer.stdout == "True True\n"
