"""`ginkgo log --follow`: every line once, at once, also into a pipe."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from ginkgo_cli import reading_verbs
from ginkgo_cli.verbs import main
from scheduling.models import LogLine, PortfolioLog
from scheduling.operations.tokens import issue_api_token
from scheduling.permissions import Role
from tests.support.api_client import make_user
from tests.support.factories import make_portfolio

pytestmark = pytest.mark.django_db(transaction=True)


class Pipe(io.StringIO):
    """A pipe: `arrived` is what was flushed into it so far."""

    arrived = ""

    def flush(self) -> None:
        self.arrived = self.getvalue()


def print_lines(portfolio: int, numbers: range) -> None:
    """Add lines with these numbers to the portfolio's log."""
    now = timezone.now()
    PortfolioLog.objects.create(
        pk=portfolio, last_no=numbers[-1], total_bytes=1, lost=0, batch=uuid4(), at=now
    )
    LogLine.objects.bulk_create(
        LogLine(
            portfolio_id=portfolio, no=number, at=now, node="node-1", revision=1,
            text=f"line {number}", end_byte=number,
        )
        for number in numbers
    )  # fmt: skip


def test_a_followed_log_loses_no_line_and_is_flushed_at_once(
    live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    portfolio = make_portfolio("canary-1").pk
    token = issue_api_token(make_user("olive", Role.OPERATOR), actor="cast")
    monkeypatch.setenv("GINKGO_SERVER", live_server.url)
    monkeypatch.setenv("GINKGO_TOKEN", token)
    pipe = Pipe()
    arrived: list[str] = []

    def wait(_: float) -> None:
        arrived.append(pipe.arrived)
        if len(arrived) == 1:
            print_lines(portfolio, range(1, 251))
        elif len(arrived) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(reading_verbs, "FOLLOWED_LINES", 100, raising=False)
    monkeypatch.setattr(reading_verbs, "time", SimpleNamespace(sleep=wait))
    monkeypatch.setattr("sys.stdout", pipe)
    with pytest.raises(KeyboardInterrupt):
        main(["log", "canary-1", "--follow"])
    numbers = [int(line.rpartition(" ")[2]) for line in pipe.getvalue().splitlines()]
    assert numbers == list(range(1, 251))
    assert arrived[0] == ""
    assert arrived[1].endswith("line 100\n")
    assert arrived[3] == pipe.getvalue()
