"""Lines of portfolios' logs: who may write them, how many are kept, who reads them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from portfolios.models import Portfolio
from scheduling import operations, retention
from scheduling.db.transaction import execute_autocommit
from scheduling.enact import portfolio_log
from scheduling.enact.portfolio_log import write_log
from scheduling.gateway import portfolio_logs
from scheduling.gateway.http import RequestRejected
from scheduling.gateway.message_decoding import decode_log
from scheduling.models import LogLine, PortfolioLog, Tenure
from scheduling.wire import messages as wire
from tests.support.api_client import ApiClient
from tests.support.commands import said
from tests.support.factories import (
    FakeNode,
    ago,
    make_node,
    make_portfolio,
    make_trader,
    newest_handoff,
    run_of,
)
from tests.support.gateway_requests import ask, post, serve

pytestmark = pytest.mark.django_db
#: Through the gateway, whose connections see committed rows only.
by_gateway = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portfolio_logs, "ANSWER_DELAY_S", 0.0)


@pytest.fixture
def portfolio(node: FakeNode) -> Portfolio:
    return make_trader("p", node).portfolio


def lines_of(
    portfolio: int, *texts: str, epoch: int = 1, handoff: int | None = None, lost: int = 0
) -> wire.StreamLines:
    found = [wire.LogLine(0, text) for text in texts]
    if lost:
        found.insert(0, wire.LogLine(0, "", lost))
    return wire.StreamLines(portfolio, epoch, handoff, found)


def send(daemon: FakeNode, *streams: wire.StreamLines, batch: str = "") -> int:
    """Write a batch as `daemon`; return how many lines were written."""
    number = UUID(batch or str(uuid4()))
    written = write_log(daemon.row.pk, daemon.name, daemon.incarnation, number, streams)
    return execute_autocommit(written)


def texts() -> list[str]:
    return list(LogLine.objects.order_by("no").values_list("text", flat=True))


# --- who may write -------------------------------------------------------------------------------


@by_gateway
def test_a_daemon_writes_log_lines_of_its_own_portfolios_only(
    node: FakeNode, portfolio: Portfolio
) -> None:
    lines = [lines_of(portfolio.pk, "one"), lines_of(7, "forged")]
    request = wire.LogRequest(str(node.incarnation), str(uuid4()), lines)
    assert post("log/", request) == (200, {"written": 1})
    assert texts() == ["one"]


def test_a_log_line_has_the_age_that_its_node_reports_and_is_never_in_the_future(
    node: FakeNode, portfolio: Portfolio
) -> None:
    lines = [wire.LogLine(5_000, "old"), wire.LogLine(-9_999_999, "young")]
    assert send(node, wire.StreamLines(portfolio.pk, 1, None, lines)) == 2
    old, young = LogLine.objects.order_by("no")
    assert 4.9 < (young.at - old.at).total_seconds() < 5.1
    assert young.at <= timezone.now()


def test_no_other_node_incarnation_or_epoch_writes(node: FakeNode, portfolio: Portfolio) -> None:
    assert send(make_node("node-2"), lines_of(portfolio.pk, "forged")) == 0
    assert send(FakeNode(node.row, uuid4()), lines_of(portfolio.pk, "forged")) == 0
    assert send(node, lines_of(portfolio.pk, "forged", epoch=2)) == 0
    assert send(node, lines_of(portfolio.pk + 1, "forged")) == 0
    assert texts() == []


def test_log_lines_of_an_ended_tenure_are_accepted_for_a_minute(node: FakeNode) -> None:
    trader = make_trader("p", node)
    target = make_node("node-2")
    trader.move_to(target)
    target.prepare()
    trader.release(newest_handoff(trader.portfolio))
    epoch = run_of(trader.portfolio).epoch
    assert epoch == 2
    assert send(node, lines_of(trader.portfolio.pk, "farewell")) == 1
    Tenure.objects.filter(epoch=1).update(ended_at=ago(portfolio_log.LATE_S + 1))
    assert send(node, lines_of(trader.portfolio.pk, "too late")) == 0
    assert send(target, lines_of(trader.portfolio.pk, "mine now", epoch=epoch)) == 1
    assert texts() == ["farewell", "mine now"]


def test_log_lines_of_a_loading_process_are_accepted_by_its_handoff(node: FakeNode) -> None:
    trader = make_trader("p", node)
    target, stranger = make_node("node-2"), make_node("node-3")
    operations.migrate("p", "node-2", actor="ann")
    handoff = newest_handoff(trader.portfolio).pk
    stream = lines_of(trader.portfolio.pk, "loading", epoch=0, handoff=handoff)
    assert send(stranger, stream) == 0
    assert send(target, stream) == 1


# --- bounds --------------------------------------------------------------------------------------


def test_a_repeated_batch_of_log_lines_is_written_once(
    node: FakeNode, portfolio: Portfolio
) -> None:
    batch = str(uuid4())
    assert send(node, lines_of(portfolio.pk, "once", lost=7), batch=batch) == 2
    assert send(node, lines_of(portfolio.pk, "once", lost=7), batch=batch) == 0
    assert texts() == ["", "once"]
    assert PortfolioLog.objects.get().lost == 7


def test_the_newest_log_lines_of_a_portfolio_are_kept(node: FakeNode, portfolio: Portfolio) -> None:
    other = make_trader("q", node).portfolio
    assert send(node, lines_of(other.pk, "of another")) == 1
    for start in range(0, 2_400, 400):
        numbers = range(start, start + 400)
        assert send(node, lines_of(portfolio.pk, *(f"line {n}" for n in numbers))) == 400
    kept = LogLine.objects.filter(portfolio=portfolio).order_by("no")
    numbered = list(kept.values_list("no", "text"))
    assert len(numbered) == portfolio_log.KEPT_LINES
    assert (numbered[0], numbered[-1][0]) == ((401, "line 400"), 2400)
    assert LogLine.objects.filter(portfolio=other).count() == 1


def test_log_lines_of_a_portfolio_are_bounded_in_bytes(
    node: FakeNode, portfolio: Portfolio
) -> None:
    fit = portfolio_log.KEPT_BYTES // (1_000 + portfolio_log.ROW_BYTES)
    for _ in range(4):
        send(node, lines_of(portfolio.pk, *["x" * 1_000] * 180))
    assert fit + 1 < 4 * 180
    # The one that crosses the bound is kept too.
    assert LogLine.objects.count() in (fit, fit + 1)


LOST = "Portfolio 1 has a log line whose count of lost lines, `lost`, is"


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (wire.StreamLines(-1, 1, None, []), "The portfolio of some log lines is -1"),
        (wire.StreamLines(1, 2**63, None, []), f"The epoch of some log lines is {2**63}"),
        (wire.StreamLines(1, 1, None, [wire.LogLine(0, "", -1)]), f"{LOST} -1"),
        (wire.StreamLines(1, 1, None, [wire.LogLine(0, "", 2**31)]), f"{LOST} {2**31}"),
    ],
)
def test_log_request_with_a_bad_number_is_rejected(stream: wire.StreamLines, found: str) -> None:
    body = wire.encode(wire.LogRequest(str(uuid4()), str(uuid4()), [stream]))
    with pytest.raises(RequestRejected, match=f"^{found}; use 0 to "):
        decode_log(body)


@by_gateway
def test_a_second_concurrent_log_request_of_a_node_is_refused(
    node: FakeNode, portfolio: Portfolio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio_logs, "ANSWER_DELAY_S", 0.3)

    def body() -> bytes:
        lines = [lines_of(portfolio.pk, "x")]
        return wire.encode(wire.LogRequest(str(node.incarnation), str(uuid4()), lines))

    async def twice() -> Any:
        return await asyncio.gather(ask("log/", body()), ask("log/", body()))

    assert sorted(status for status, _ in serve(twice)) == [200, 429]
    assert LogLine.objects.count() == 1


# --- what is shown -------------------------------------------------------------------------------

HOSTILE = "\x1b[2J\u202egnp.exe\x00\r\u2028<script>"
SHOWN = "\\x1b[2J\\u202egnp.exe\\x00\\r\\u2028<script>"


def test_control_and_bidirectional_characters_are_escaped_everywhere(
    node: FakeNode, portfolio: Portfolio, viewer: ApiClient
) -> None:
    send(node, lines_of(portfolio.pk, HOSTILE))
    assert texts() == [SHOWN]
    assert viewer.get("portfolios/p/log/").json()["results"][0]["text"] == SHOWN
    assert said("portfolio_log", "p").endswith(f"Z node-1 r1 {SHOWN}\n")


def test_escaping_does_not_lengthen_a_log_line_beyond_its_bound(
    node: FakeNode, portfolio: Portfolio
) -> None:
    send(node, lines_of(portfolio.pk, "\x1b" * 1_000))
    assert len(texts()[0]) == wire.MAX_LOG_LINE


def test_viewers_read_the_newest_log_lines_or_those_after_a_number(
    node: FakeNode, portfolio: Portfolio, viewer: ApiClient, stranger: ApiClient, nobody: ApiClient
) -> None:
    assert viewer.get("portfolios/p/log/").json() == {"last": 0, "lost": 0, "results": []}
    send(node, lines_of(portfolio.pk, "a", "b", "c", lost=3))
    document = viewer.get("portfolios/p/log/", limit=2).json()
    assert (document["last"], document["lost"]) == (4, 3)
    assert [line["text"] for line in document["results"]] == ["b", "c"]
    later = viewer.get("portfolios/p/log/", after=0, limit=2).json()["results"]
    assert [(line["no"], line["text"], line["lost"]) for line in later] == [(1, "", 3), (2, "a", 0)]
    assert viewer.get("portfolios/p/log/", after=4).json()["results"] == []
    assert viewer.get("portfolios/p/log/", after="x").status_code == 400
    assert viewer.get("portfolios/p/log/", befor=1).status_code == 400
    assert viewer.get("portfolios/q/log/").status_code == 404
    assert stranger.get("portfolios/p/log/").status_code == 403
    assert nobody.get("portfolios/p/log/").status_code == 401


def test_portfolio_log_command_says_how_many_lines_were_lost(
    node: FakeNode, portfolio: Portfolio
) -> None:
    assert said("portfolio_log", "p") == "p printed nothing.\n"
    send(node, lines_of(portfolio.pk, "a", lost=1_234))
    assert "(1,234 lines were lost here)" in said("portfolio_log", "p")


def test_portfolio_log_command_refuses_more_lines_than_one_answer_has() -> None:
    with pytest.raises(CommandError, match="--lines takes at most 2000"):
        call_command("portfolio_log", "p", "--lines", "2001")


def test_following_a_log_ends_when_another_portfolio_has_the_name(
    portfolio: Portfolio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_portfolio(_: float) -> None:
        Portfolio.objects.filter(pk=portfolio.pk).update(archived_at=timezone.now())
        make_portfolio("p")

    # Of the command alone: a thread of an earlier test may sleep, and would commit a portfolio.
    command = "scheduling.management.commands.portfolio_log.time"
    monkeypatch.setattr(command, SimpleNamespace(sleep=replace_portfolio))
    with pytest.raises(CommandError, match="p was deleted; another portfolio has its name now"):
        call_command("portfolio_log", "p", "--follow")


# --- retention -----------------------------------------------------------------------------------


def test_old_log_lines_and_those_of_deleted_portfolios_are_pruned(node: FakeNode) -> None:
    kept, gone = make_trader("p", node).portfolio, make_trader("q", node).portfolio
    send(node, lines_of(kept.pk, "old"))
    LogLine.objects.update(at=ago(15 * 86_400))
    send(node, lines_of(kept.pk, "new"), lines_of(gone.pk, "of a deleted one"))
    operations.delete_portfolio("q", actor="ann")
    assert send(node, lines_of(gone.pk, "after its deletion")) == 0
    retention.delete_rows(until=float("inf"))
    assert texts() == ["new"]
