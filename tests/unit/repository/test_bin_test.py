"""`bin/test` with a stand-in for pytest: which failures are run again, and what counts then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ginkgo_site.env import CHECKOUT

#: Plays pytest: fails with the tests that the plan names for this run and attempt.
PYTEST = """
import json, os, sys
from pathlib import Path
(cache,) = [Path(word.partition("=")[2]) for word in sys.argv if word.startswith("cache_dir=")]
run = cache.name.removeprefix("cache-")
attempt = int("--last-failed" in sys.argv)
code, failed = json.loads(os.environ["PLAN"]).get(run, [[0, []], [0, []]])[attempt]
(cache / "v/cache").mkdir(parents=True, exist_ok=True)
(cache / "v/cache/lastfailed").write_text(json.dumps(dict.fromkeys(failed, True), indent=2))
print(f"{run} attempt {attempt}")
sys.exit(code)
"""
PYTHON = f"""#!/bin/sh
[ "$1 $2" = "-m pytest" ] || exit 0
exec {sys.executable} pytest.py "$@"
"""

Outcome = tuple[int, list[str]]  # pytest's exit code, and what failed
PASSES: Outcome = (0, [])
LATE: Outcome = (1, ["tests/a.py::test_late"])
BROKEN: Outcome = (3, [])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with nothing but `bin/test` and stand-ins for what it calls."""
    for name in ("bin", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("test", "python.sh"):
        shutil.copy(CHECKOUT / "bin" / name, tmp_path / "bin")
    (tmp_path / "pytest.py").write_text(PYTEST)
    for name, text in ((".venv/bin/python", PYTHON), ("bin/nats-server", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


BOTH = ["database", "rest"]
#: What fails in each run and attempt, the exit code, and the runs that are repeated.
CASES = {
    "all pass": ({}, 0, []),
    "two runs fail once": ({"database": [LATE, PASSES], "rest": [LATE, PASSES]}, 0, BOTH),
    "one of two fails twice": ({"database": [LATE, PASSES], "rest": [LATE, LATE]}, 1, BOTH),
    "more than ten fail": ({"pure": [(1, [*"abcdefghijk"]), PASSES]}, 1, []),
    "the repeat is broken": ({"pure": [LATE, BROKEN]}, 3, ["pure"]),
    "a run is broken": ({"database": [LATE, PASSES], "rest": [BROKEN, PASSES]}, 3, []),
}


@pytest.mark.parametrize(("plan", "code", "again"), CASES.values(), ids=CASES)
def test_up_to_ten_failed_tests_are_run_again_and_have_to_pass_alone(tree, plan, code, again):
    environment = {**os.environ, "PLAN": json.dumps(plan), "GINKGO_CHROMIUM": "/bin/true"}
    environment["PATH"] = f"{tree / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        ["sh", tree / "bin/test"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("attempt 1")] == again
    assert ("Passed alone, after they failed beside the other runs:" in lines) == (
        bool(again) and code == 0
    )
    if again:
        assert '  "tests/a.py::test_late": true' in lines
