"""Measure the verification of a canary after days of events.

    bin/bench verification [DAYS] [EVENTS]

EVENTS is the number of events in a day (default 864,000: ten per second). The canary processes them
in the product's engine and commits through the product's statement. It is verified every sixth of a
day, as the schedule does every hour. Rows: one verification a sixth of a day after the previous
one, on the first and on the last day, and one from the first event after the first day.
"""

from __future__ import annotations

import json
import os
import time

from bench.commit import own_database
from bench.result_table import given_numbers

PARTS = 6  #: verifications per day
BATCH = 20_000  #: events per commit


def main() -> None:
    days, events = given_numbers(7, 864_000)
    with own_database():
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
            "GINKGO_FEED_RATE": str(events / 86_400),
        }
        measure(days, events)


def measure(days: int, events: int) -> None:
    """Let a canary commit `events` a day and verify it PARTS times a day. Print the rows."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)

    from tests.support.factories import make_node, make_running_portfolio

    node = make_node("node-1")
    make_running_portfolio("canary", node)
    for day in range(1, days + 1):
        for part in range(PARTS):
            left = events // PARTS
            while left:
                answer = node.commit("canary", min(left, BATCH))
                assert answer == "ok", f"a commit of the canary was answered: {answer}"
                left -= min(left, BATCH)
            last = part == PARTS - 1
            verify(f"day {day}", is_printed=last and day in (1, days))
        if day == 1:
            verify("day 1, in full", is_printed=True, full=True)


def verify(name: str, *, is_printed: bool, full: bool = False) -> None:
    """Verify the canary up to now, from its first event if `full`; print a row if `is_printed`."""
    from scheduling.verification.verify import verify_portfolio

    began, cpu = time.monotonic(), os.times()
    verdict = verify_portfolio("canary", full=full)
    assert verdict.identical, verdict.sentence
    now = os.times()
    used = sum(getattr(now, f) - getattr(cpu, f) for f in ("user", "children_user"))
    if is_printed:
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
