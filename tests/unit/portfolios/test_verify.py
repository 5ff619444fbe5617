"""The pure parts of a verification: the run in windows, ranges, and where two states differ."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import zstandard

from chaos.harness.installation import eventually
from chaos.harness.processes import processes_with, still_running
from portfolios.feeds.clock import Segment
from portfolios.runtime.errors import StateUnreadable
from portfolios.runtime.events import encode_events
from portfolios.runtime.messages import Batch, Failed, Load, Reply, Result
from portfolios.runtime.results import EquityRow
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import (
    MAX_STATE_BYTES,
    compress_state,
    decode_state,
    encode_state,
    pack_state,
    strategy_view,
)
from portfolios.runtime.worker import PortfolioWorker
from portfolios.verify import reference_run
from portfolios.verify.compare import pair_by_key
from portfolios.verify.compare_state import canonical_bytes, first_difference, state_digest
from portfolios.verify.reference_run import ReferenceRun, merge_ranges
from portfolios.verify.replay_process import ReplayProcessEnded, replay_process
from portfolios.verify.types import RecordedRun, TenureSegment
from tests.support.bar_log import BarLog, BarRow
from tests.support.kernel_features import CAN_REFUSE_CALLS
from tests.support.market_factories import spec
from tests.support.single_process_run import replay

FEED = BarLog(
    "one share", [BarRow("KO", day, 10_000, 10_000, 10_000, 10_000, 1) for day in range(9)]
)
SEGMENTS = [Segment(1, 0, 1.0)]


def recorded_run(
    epochs: list[tuple[int, Spec]], to_seq: int, stale: list[tuple[int, int]]
) -> RecordedRun:
    tenure_segments = [
        TenureSegment(first, ran, n, "node-1", f"epoch {n}")
        for n, (first, ran) in enumerate(epochs, 1)
    ]
    return RecordedRun(tenure_segments, stale, SEGMENTS, FEED, to_seq, None)


@pytest.mark.parametrize("window", [1, 3, 7, 100])
def test_reference_run_is_the_same_whatever_its_windows(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_run, "BATCH_EVENTS", 5)
    fast = {"fast": 1, "slow": 2}
    epochs = [
        (1, spec("sma_cross", parameters=fast)),
        (6, spec("buy_and_hold", revision=2)),  # committed once, and nothing: its part is empty
        (6, spec("sma_cross", revision=3, parameters=fast)),  # and so this one begins anew
        (14, spec("canary", revision=4)),
        (19, spec("buy_and_hold", revision=5)),
    ]
    stale = [(2, 3), (15, 16), (17, 19)]
    told: list[int] = []
    run = ReferenceRun(recorded_run(epochs, 25, stale), PortfolioWorker().answer, told.append)
    orders, fills, equity = [], [], []
    for to_seq in [*range(window, 25, window), 25]:
        rows = run.advance(to_seq)
        orders += rows.orders
        fills += rows.fills
        equity += rows.equity
    whole = replay(epochs, FEED, SEGMENTS, 25, stale)
    assert (orders, fills, equity) == (whole.orders, whole.fills, whole.equity)
    assert run.state is not None and canonical_bytes(run.state) == pack_state(whole.state)
    assert (run.seq, run.events, told[-1]) == (25, 25, 25)


def test_reference_run_adapts_the_state_for_an_owner_with_only_an_empty_commit() -> None:
    # From canary to canary nothing would be lost; buy_and_hold in between kept none of it.
    epochs = [(1, spec("canary")), (6, spec("buy_and_hold", revision=2)),
              (6, spec("canary", revision=3))]  # fmt: skip
    run = ReferenceRun(recorded_run(epochs, 9, []), PortfolioWorker().answer, lambda seq: None)
    run.advance(9)
    assert run.state is not None
    assert strategy_view(decode_state(run.state))["first_seq"] == 6


def test_symbol_removed_by_a_revision_is_filled_and_marked_until_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Day by day KO and PEP close at 1.00, 1.10, 1.20 …; seq 1 is KO, seq 2 PEP, and so on.
    days = [
        BarRow(symbol, day, price, price, price, price, 1)
        for day in range(9)
        for symbol, price in (("KO", 10_000 + 1_000 * day), ("PEP", 10_000 + 1_000 * day))
    ]
    feed = BarLog("two shares", days)
    both = spec("buy_and_hold", symbols=["KO", "PEP"], parameters={"quantity": "5"})
    one = spec("buy_and_hold", revision=2, symbols=["PEP"], parameters={"quantity": "5"})
    epochs = [(1, both), (2, one)]  # KO is ordered at seq 1 and not filled yet
    monkeypatch.setattr(reference_run, "BATCH_EVENTS", 3)
    evidence = dataclasses.replace(recorded_run(epochs, 9, []), feed=feed)
    run = ReferenceRun(evidence, PortfolioWorker().answer, lambda seq: None)
    fills = [fill for to_seq in (2, 3, 6, 9) for fill in run.advance(to_seq).fills]
    assert [(fill.symbol, fill.fill_seq) for fill in fills] == [("KO", 3), ("PEP", 4)]
    assert run.state is not None
    positions = decode_state(run.state).account.positions
    assert {s: p.mark_units for s, p in positions.items()} == {"KO": 14_000, "PEP": 13_000}
    whole = replay(epochs, feed, SEGMENTS, 9)
    assert (fills, canonical_bytes(run.state)) == (whole.fills, pack_state(whole.state))


def test_suppressed_ranges_that_touch_or_overlap_are_merged() -> None:
    assert list(merge_ranges([(1, 4), (5, 9), (8, 12), (14, 20), (15, 16)])) == [(1, 12), (14, 20)]
    assert list(merge_ranges([])) == []


def test_stored_and_reference_rows_are_paired_by_key_even_if_some_are_missing() -> None:
    def rows(*seqs: int) -> list[EquityRow]:
        return [EquityRow(seq, 0, Decimal(seq)) for seq in seqs]

    def key(row: EquityRow) -> tuple[int, int]:
        return row.seq, 0

    pairs = pair_by_key(rows(1, 2, 4, 7), key, rows(2, 3, 4, 9), key)
    assert [(seq, w is not None, f is not None) for (seq, _), w, f in pairs] == [
        (1, True, False), (2, True, True), (3, False, True), (4, True, True), (7, True, False),
        (9, False, True),
    ]  # fmt: skip


def test_a_state_is_compared_without_its_compression() -> None:
    state = replay([(1, spec("canary"))], FEED, SEGMENTS, 9).state
    packed = pack_state(state)
    assert canonical_bytes(encode_state(state)) == packed
    assert state_digest(encode_state(state)) == state_digest(compress_state(packed))
    with pytest.raises(StateUnreadable):
        canonical_bytes(b"no state")
    with pytest.raises(StateUnreadable, match=f"size of {MAX_STATE_BYTES + 1:,} bytes"):
        canonical_bytes(zstandard.compress(bytes(MAX_STATE_BYTES + 1)))
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(packed)
    for read in (canonical_bytes, decode_state):
        with pytest.raises(StateUnreadable, match="header states no size"):
            read(sizeless)


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ("a.b[1]", "2", "3")),
        ({"a": [1]}, {"a": [1, 2]}, ("a[1]", "missing", "2")),
        ({"a": 1, "b": 2}, {"a": 1}, ("b", "2", "missing")),
        ({"a": 1}, {"a": "1"}, ("a", "1", "1")),
        ({"a": True}, {"a": 1}, ("a", "True", "1")),
        ({"a": b"\x01"}, {"a": b"\x02"}, ("a", "01", "02")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ("order of keys", "['a', 'b']", "['b', 'a']")),
    ],
)
def test_the_first_place_where_states_differ_is_named(
    found: object, wanted: object, said: tuple[str, str, str] | None
) -> None:
    assert first_difference(found, wanted) == said


def test_error_of_an_ended_process_says_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GINKGO_STRATEGIES", "tests.support.strategies.never_ready")
    with replay_process() as ask, pytest.raises(ReplayProcessEnded, match="exited with status 3"):
        ask(Load(spec("leaving"), None, 0))


def first_event(what: str, **limits: Any) -> Reply:
    """Return what the replay of one event answers, at which the strategy does `what`."""
    parameters = {"action": what, "at_event": 1}
    event = encode_events(FEED.read_for(frozenset(["KO"]), 1, 1, SEGMENTS, 1))
    with replay_process(**limits) as ask:
        ask(Load(spec("misbehaving", parameters=parameters), None, 0))
        return ask(Batch(0, 1, False, event))


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be strategies that misbehave."""
    monkeypatch.setenv("GINKGO_STRATEGIES", "chaos.faults.faulty_strategies")


def test_replay_that_forked_or_was_late_leaves_no_process(
    faulty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = str(uuid4())
    monkeypatch.setenv("GINKGO_TEST_MARK", mark)
    assert isinstance(first_event("fork", sandboxed=False), Result)
    with pytest.raises(ReplayProcessEnded, match="within 3 s and was killed"):
        first_event("sleep", limit_s=3.0)
    left = "the end of every process of it"
    eventually(lambda: not processes_with("GINKGO_TEST_MARK", mark), what=left)


def test_a_replayed_strategy_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from portfolios.verify.replay_process import _environment

    for name in ("DATABASE_URL", "GINKGO_NODE_TOKEN", "AWS_SECRET_ACCESS_KEY", "BROKER_API_KEY"):
        monkeypatch.setenv(name, "x")
    kept = _environment(in_environment=False)
    assert kept["PYTHONHASHSEED"] == "0"
    assert not [name for name in kept if kept[name] == "x"]


@pytest.mark.usefixtures("faulty")
def test_a_replayed_strategy_is_refused_what_it_was_refused_on_its_node() -> None:
    refused = first_event("fork")
    assert (isinstance(refused, Failed) and "PermissionError" in refused.error) is CAN_REFUSE_CALLS


@pytest.mark.usefixtures("faulty")
def test_a_replayed_strategy_has_the_memory_it_is_given_and_says_when_that_is_used_up() -> None:
    assert isinstance(first_event("allocate_slowly", memory_mb=512), Result)
    eaten = first_event("allocate_fast", memory_mb=512)
    assert isinstance(eaten, Failed) and "MemoryError" in eaten.error


ASKER = """
from portfolios.runtime.messages import Load
from portfolios.verify.replay_process import replay_process
from tests.support.market_factories import spec
with replay_process() as ask:
    ask(Load(spec("looping"), None, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of the socket has to do")
def test_a_looping_strategy_dies_with_its_parent() -> None:
    asker = subprocess.Popen(
        [sys.executable, "-c", ASKER],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "GINKGO_STRATEGIES": "tests.support.strategies.never_ready"},
    )
    looping = eventually(
        lambda: next(
            (c for c in psutil.Process(asker.pid).children() if c.cpu_times().user > 0.5), None
        ),
        30,
    )
    asker.kill()
    asker.wait()
    assert looping is not None
    eventually(lambda: not still_running([looping]))
