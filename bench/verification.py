"""Verify a canary after a day and after a week: `bin/bench verification [DAYS] [EVENTS]`.

EVENTS is the number of events in a day (864,000: ten a second). The canary processes them in
the product's engine and commits through the product's statement. Every sixth of a day it is
verified, as the schedule does every hour. Rows: one verification a sixth of a day behind the
last, after the first day and after the last, and one from the first event after the first day.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ginkgo_site.launcher.postgres import EmbeddedPostgres

PARTS = 6  #: of a day, between two verifications
PIECE = 20_000  #: events of one commit


def main() -> None:
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    events = int(sys.argv[2]) if len(sys.argv) > 2 else 864_000
    home = Path(tempfile.mkdtemp(prefix="ginkgo-bench-"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home)
    server.prepare()
    server.start()
    server.wait_until_ready()
    os.environ |= {
        "DATABASE_URL": server.url,
        "GINKGO_HOME": str(home / "home"),
        "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
        "GINKGO_FEED_RATE": str(events / 86_400),
    }
    try:
        measure(days, events)
    finally:
        server.stop()


def measure(days: int, events: int) -> None:
    """Run the days, and print a row for each verification that counts."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)

    from tests.support.factories import make_node, make_running_portfolio

    node = make_node("node-1")
    make_running_portfolio("canary", node)
    for day in range(1, days + 1):
        for part in range(PARTS):
            for _ in range(events // PARTS // PIECE):
                assert node.commit("canary", PIECE) == "ok"
            last = part == PARTS - 1
            verified(f"day {day}", shown=last and day in (1, days))
        if day == 1:
            verified("day 1, in full", shown=True, full=True)


def verified(name: str, *, shown: bool, **how: Any) -> None:
    from scheduling.verification.verify import verify_portfolio

    began, cpu = time.monotonic(), os.times()
    verdict = verify_portfolio("canary", **how)
    assert verdict.identical, verdict.sentence
    now = os.times()
    used = sum(getattr(now, f) - getattr(cpu, f) for f in ("user", "children_user"))
    if shown:
        row = {
            "name": name,
            "value": round(time.monotonic() - began, 2),
            "unit": "s",
            "cpu_s": round(used, 2),
            "events": verdict.document()["events"],
            "replayed": verdict.compared.replayed,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
