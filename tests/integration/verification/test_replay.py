"""A replay shows what a strategy prints in a range, and says whether it equals the records."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from portfolios.models import Order, Portfolio
from portfolios.verify.printed import PrintedLine
from scheduling.errors import NotFound, Refused
from scheduling.verification.replay import Replay, replay_portfolio, sentences
from scheduling.verification.verify import verify_portfolio
from tests.support.commands import said, told
from tests.support.factories import FakeNode, make_node, make_portfolio, make_running_portfolio

pytestmark = pytest.mark.django_db

NAME = "talker"
SYMBOLS = ["IBM", "KO"]


@pytest.fixture(autouse=True)
def strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GINKGO_STRATEGIES", "tests.support.strategies.talking")


@pytest.fixture
def node() -> FakeNode:
    return make_node("node-1")


@pytest.fixture
def talker(node: FakeNode) -> Portfolio:
    """Return a portfolio that has handled about 20 events of two symbols."""
    make_running_portfolio(NAME, node, events=3_760, strategy="talking", symbols=SYMBOLS)
    return Portfolio.objects.get(name=NAME)


def replayed(
    from_seq: int | None = None, to_seq: int | None = None
) -> tuple[Replay, list[PrintedLine]]:
    lines: list[PrintedLine] = []
    return replay_portfolio(NAME, from_seq, to_seq, lines.extend), lines


def test_replay_shows_lines_printed_in_its_range_with_their_events(talker: Portfolio) -> None:
    done, every = replayed()
    assert done.compared.difference is None and done.verified_at is None
    texts = [line.text for line in every]
    assert texts[:4] == ["IBM is number 1", "unended", "KO is number 2", "unended"]
    assert len(every) == 2 * done.compared.replayed >= 36

    begin, end = every[6].seq, every[11].seq
    done, some = replayed(begin, end)
    assert some == every[6:12]
    assert (done.from_seq, done.to_seq, done.begun_at) == (begin, end, talker.first_seq)
    assert list(sentences(done))[1] == "It equals the records."


def test_replay_begins_after_the_newest_verified_state_before_the_range(
    talker: Portfolio, node: FakeNode
) -> None:
    assert verify_portfolio(NAME).identical
    verified = talker.first_seq + 3_759
    assert node.commit(NAME, 3_760) == "ok"

    done, lines = replayed(verified + 2)
    assert done.begun_at == verified + 1
    assert done.verified_at is not None
    assert done.compared.replayed < 25
    assert min(line.seq for line in lines) > verified
    assert " from the state verified at 20" in next(iter(sentences(done)))


def test_replay_goes_on_after_a_difference_and_names_it(talker: Portfolio) -> None:
    order = Order.objects.filter(portfolio=talker).earliest("seq")
    Order.objects.filter(id=order.id).update(quantity=7)
    done, lines = replayed()
    assert done.compared.difference is not None
    assert done.compared.difference.seq == order.seq
    assert max(line.seq for line in lines) > order.seq
    assert "quantity is 7.0000, the reference run has 1.0000" in list(sentences(done))[1]


def test_replay_command_shows_printed_lines_and_outcome(talker: Portfolio) -> None:
    printed = said("replay_portfolio", NAME, "--print")
    assert "  IBM is number 1\n" in printed
    assert printed.endswith("It equals the records.\n")
    document = told("replay_portfolio", NAME, "--print")
    assert document["state"] == "identical"
    assert document["printed"][0]["text"] == "IBM is number 1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "99999999"), "talker cannot be replayed from seq 99,999,999: choose one from"),
        (("--to", "99999999"), "cannot be replayed up to seq 99999999: it has committed seq"),
        (("--from", "0"), "must be at least 1"),
    ],
)
def test_wrong_range_of_a_replay_is_refused_with_a_sentence(
    talker: Portfolio, arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("replay_portfolio", NAME, *arguments)
    assert sentence in str(refused.value)


def test_replay_of_a_portfolio_without_commits_is_refused() -> None:
    make_portfolio("idle")
    with pytest.raises(Refused, match="idle cannot be replayed: it has committed no event yet"):
        replay_portfolio("idle")
    with pytest.raises(NotFound):
        replay_portfolio("missing")
