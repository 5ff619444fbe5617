"""Every SQL write of a scheduling row is in scheduling/enact."""

from __future__ import annotations

import re
from pathlib import Path

from ginkgo_site.env import CHECKOUT

WRITE = re.compile(
    r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE|MERGE\s+INTO)\s+(ONLY\s+)?scheduling_", re.I
)
#: The queue of verifications claims its rows itself; a migration changes the tables.
MAY_WRITE = ("scheduling/enact/", "scheduling/migrations/", "scheduling/verification/queue.py")


def writes(text: str) -> bool:
    return WRITE.search(text) is not None


def test_scheduling_rows_are_written_in_enact_only() -> None:
    found = [
        path.relative_to(CHECKOUT).as_posix()
        for package in ("ginkgo_site", "portfolios", "scheduling")
        for path in sorted(Path(CHECKOUT, package).rglob("*.py"))
        if writes(path.read_text(encoding="utf-8"))
    ]
    assert [path for path in found if not path.startswith(MAY_WRITE)] == []
    assert any(path.startswith("scheduling/enact/") for path in found)
