"""Halts and what they did, from the audit log; and how many portfolios each still keeps stopped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from django.db.models import Count, Q, QuerySet

from scheduling.decide.halted import Halted, Stopped
from scheduling.errors import NotFound
from scheduling.models import Event, Halt
from scheduling.observe.view_fields import same_named


@dataclass(frozen=True, slots=True)
class HaltView:
    """One halt. `waiting` is the number of portfolios that it still keeps stopped."""

    halt: int
    at: datetime
    actor: str
    reason: str
    running: int  #: portfolios with an owner at that time
    stopped: int  #: portfolios that it stopped
    waiting: int
    undone_at: datetime | None
    undone_by: str


def read_halts(limit: int = 20) -> list[HaltView]:
    """Return the newest halts, newest first. One statement."""
    return [_halt_view(row) for row in _halts()[:limit]]


#: A banner shows at most so many halts, the newest: nobody reads a longer list there.
MAX_IN_FORCE = 3

#: The newest halts that still keep a portfolio stopped, and how many each keeps.
IN_FORCE = """
SELECT h.id AS halt, h.at, h.actor, h.reason, h.running, h.stopped, count(*)::int AS waiting,
       h.undone_at, h.undone_by
FROM scheduling_halt h
JOIN scheduling_run r ON r.halt_id = h.id
JOIN portfolios_portfolio p ON p.id = r.portfolio_id AND p.archived_at IS NULL
GROUP BY h.id ORDER BY h.id DESC LIMIT %(most)s
"""


def read_halts_in_force(cursor: psycopg.Cursor[Any]) -> list[HaltView]:
    """Return the newest halts that still keep a portfolio stopped. One statement."""
    rows = cursor.execute(IN_FORCE, {"most": MAX_IN_FORCE}).fetchall()
    return [HaltView(*row) for row in rows]


def read_halt(number: int) -> tuple[HaltView, Halted]:
    """Return a halt as it is now, and what it did at the time. Raise NotFound. Two statements."""
    row = _halts().filter(pk=number).first()
    if row is None:
        raise NotFound("halt", str(number))
    # All events of a halt have its timestamp, and an index on it finds them.
    ended = Event.objects.filter(at=row.at, kind="ended", data__halt=number)
    lines = ended.order_by("portfolio__name", "id").values_list("portfolio__name", "data")
    results = [
        Stopped(
            portfolio=name or "",
            phase=data["phase"],
            node=data["node"],
            handoff=data["ended_handoff"],
            epoch_before=data["epoch_before"],
            epoch=data["epoch"],
            last_seq=data["from_seq"],
        )
        for name, data in lines
    ]
    return _halt_view(row), Halted(row.pk, row.at, row.actor, row.reason, row.running, results)


def _halts() -> QuerySet[Any]:
    """Return the halts, newest first, each with the number of portfolios it keeps stopped."""
    present = Q(runs__portfolio__archived_at__isnull=True)
    return Halt.objects.annotate(waiting=Count("runs", filter=present)).order_by("-id")


def _halt_view(row: Halt) -> HaltView:
    """Return the view of a row of `_halts`."""
    return HaltView(halt=row.pk, **same_named(HaltView, row))
