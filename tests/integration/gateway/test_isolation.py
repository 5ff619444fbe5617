"""A misbehaving strategy ends alone, without effect on its node and the other portfolios."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from chaos.harness.installation import budget_s
from scheduling.wire import messages as wire
from tests.support.daemons import (
    FAULTY,
    ROOT,
    Daemon,
    Daemons,
    alive,
    assert_canary_is_exact,
    continue_for,
    family,
    reports,
    run_canary,
)
from tests.support.fake_gateway import FakeGateway
from tests.support.kernel_features import CAN_REFUSE_CALLS, CAN_REFUSE_FILES, LACKING

GAP_S = 1.0  #: between two commits of a bystander
CANARY, BAD = 1, 2
AT_EVENT = 5
LIMIT = r"took longer than its limit of [\d.]+ s: look for an endless loop .* on the node"
REFUSED = r"PermissionError: \[Errno 1\] Operation not permitted in misbehaving at seq \d+"
BATCH_S = 0.5  #: on a busy machine, a batch of the canary takes a second as well
ENDLESS_S = 30.0  #: for what ends by itself, or goes on

in_a_ward = pytest.mark.asyncio(loop_scope="module")


class Ward:
    """A daemon with a canary, to which misbehaving strategies come one after another."""

    def __init__(self, daemons: Daemons, daemon: Daemon) -> None:
        self.gateway, self.daemons, self.daemon = daemons.gateway, daemons, daemon
        self.bad = [CANARY]  #: the portfolios that misbehave now
        self._commits_before = 0

    async def admit(self, *actions: str) -> None:
        """Run, for each of these, a strategy that does it at its fifth event."""
        entries = [
            self.grant("misbehaving", {"action": what, "at_event": AT_EVENT}) for what in actions
        ]
        await self.run(*entries)

    async def run(self, *entries: wire.DesiredEntry) -> None:
        """Run these besides the canary."""
        self.bad = [entry.portfolio for entry in entries]
        self._commits_before = len(self.gateway.runs[CANARY].commits) - 1
        await self.gateway.want("node-1", self.gateway.entry(CANARY, "run"), *entries)

    def grant(self, strategy: str, parameters: dict[str, object]) -> wire.DesiredEntry:
        """Grant a new portfolio to the node."""
        number = max(self.gateway.runs) + 1
        self.gateway.grant("node-1", number)
        return self.gateway.entry(number, "run", strategy=strategy, parameters=parameters)

    async def dismiss(self) -> None:
        """Remove what misbehaves and wait until only the forkserver and the canary are left."""
        await self.gateway.want("node-1", self.gateway.entry(CANARY, "run"))
        await self.gateway.until(lambda: len(alive(family(self.daemon.pid))) == 2, every_s=0.05)

    def deaths(self) -> list[wire.ProcessExited]:
        """Return the reports of exited processes, without those of strategies before."""
        found = [r for _, r in self.gateway.reports if isinstance(r, wire.ProcessExited)]
        return [died for died in found if died.portfolio in (CANARY, *self.bad)]

    async def first_death(self) -> wire.ProcessExited:
        await self.gateway.until(self.deaths)
        return self.deaths()[0]

    async def assert_bystanders_noticed_nothing(self) -> None:
        await continue_for(self.gateway, 10)
        assert self.gateway.longest_gap_s(CANARY, self._commits_before) < budget_s(GAP_S)
        assert CANARY not in {died.portfolio for died in self.deaths()}
        assert self.daemon.returncode is None
        assert len(self.gateway.registered) == 1
        assert psutil.Process(self.daemon.pid).memory_info().rss < 150e6
        assert_canary_is_exact(self.gateway, CANARY)


class Wards:
    """Wards by the settings of their daemon, each started when it is first needed."""

    def __init__(self, opened: AsyncExitStack, folders: pytest.TempPathFactory) -> None:
        self._opened, self._folders = opened, folders
        self._wards: dict[tuple[object, ...], Ward] = {}

    async def get(self, *, hangs: bool = False, sandboxed: bool = True) -> Ward:
        """Return a ward in which what hangs is ended soon, or one without a sandbox."""
        found = self._wards.get((hangs, sandboxed))
        if found is None or found.daemon.returncode is not None:
            found = self._wards[hangs, sandboxed] = await self._start(hangs, sandboxed)
        return found

    async def _start(self, hangs: bool, sandboxed: bool) -> Ward:
        gateway = await self._opened.enter_async_context(FakeGateway())
        gateway.next_beat_s = 0.5
        folder = self._folders.mktemp("ward")
        daemons = Daemons(gateway, folder)
        self._opened.push_async_callback(daemons.end)
        limit_s = budget_s(BATCH_S) if hangs else ENDLESS_S
        daemon = await run_canary(
            gateway,
            daemons,
            GINKGO_STRATEGIES=FAULTY,
            GINKGO_CHILD_MEMORY_MB="384",
            GINKGO_BATCH_LIMIT_S=f"{limit_s:g}",
            **({} if sandboxed else {"GINKGO_STRATEGY_GUARD": "no"}),
            **make_targets(folder),
        )
        return Ward(daemons, daemon)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wards(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wards]:
    async with AsyncExitStack() as opened:
        yield Wards(opened, tmp_path_factory)


BY_THE_FILTER = [
    ("kill_parent", "event", REFUSED),
    ("kill_all_processes", "event", REFUSED),
    ("fork", "event", REFUSED),
    ("fork_bomb", "event", REFUSED),
    ("spawn", "event", "PermissionError: .*at seq"),
]


@pytest.mark.parametrize(
    ("what", "stage", "sentence"),
    [
        *(BY_THE_FILTER if CAN_REFUSE_CALLS else []),
        ("exit_process", "event", r"SystemExit: 4 in misbehaving at seq \d+"),
        ("interrupt", "event", r"KeyboardInterrupt: .*at seq \d+"),
        ("kill_itself", "exit", "its process was ended by SIGKILL"),
        ("allocate_fast", "event", r"MemoryError: .*at seq \d+"),
        ("allocate_slowly", "event", r"MemoryError: .*at seq \d+"),
        ("thread_bomb", "event", "RuntimeError: can't start new thread"),
        ("recurse", "event", "RecursionError: maximum recursion depth exceeded .*at seq"),
        ("open_files_endlessly", "event", "Too many open files"),
        ("fill_the_disk", "event", r"(Permission denied|File too large).*at seq \d+"),
        ("close_everything", "exit", "its process (exited with status|closed its socket)"),
        ("send_garbage", "exit", "its process answered"),
        ("announce_oversized_reply", "exit", "its process answered with 4294967295 bytes, limit"),
        ("send_malformed_reply", "exit", "its process answered with 5 bytes that cannot be"),
        (
            "report_future_seq",
            "exit",
            r"its process answered with a result whose .* is \(0, 1000000000000, ",
        ),
        ("reply_too_often", "exit", "its process answered"),
        ("change_process_globals", "event", "RuntimeError: the process was changed"),
    ],
)
@in_a_ward
async def test_misbehaving_strategy_ends_with_its_reason_and_harms_no_other_portfolio(
    wards: Wards, what: str, stage: str, sentence: str
) -> None:
    ward = await wards.get()
    await ward.admit(what)
    died = await ward.first_death()
    assert died.stage == stage
    assert_says(died, sentence)
    await ward.assert_bystanders_noticed_nothing()
    await ward.dismiss()


def assert_says(died: wire.ProcessExited, sentence: str) -> None:
    assert re.search(sentence, died.error), died.error
    assert died.error.isprintable()
    assert len(died.error) < 700


HANGING = {
    "stop_itself": LIMIT,
    "sleep": LIMIT,
    "ignore_signals": LIMIT,
    "print_endlessly": f"{LIMIT}; its last output: .*endless output",
    "write_to_stderr": f"{LIMIT}; its last output: …?x+",
    "write_long_line": LIMIT,
}


@in_a_ward
async def test_hanging_strategies_are_ended_after_their_limit_and_harm_no_other_portfolio(
    wards: Wards,
) -> None:
    ward = await wards.get(hangs=True)
    await ward.admit(*HANGING)
    await ward.gateway.until(lambda: {died.portfolio for died in ward.deaths()} >= {*ward.bad})
    first = {died.portfolio: died for died in reversed(ward.deaths())}
    for (what, sentence), portfolio in zip(HANGING.items(), ward.bad, strict=True):
        assert first[portfolio].stage == "killed", what
        assert_says(first[portfolio], sentence)
    await ward.assert_bystanders_noticed_nothing()
    await ward.dismiss()


def make_targets(folder: Path) -> dict[str, str]:
    """Make what strategies try to read or to remove. Return settings that name it."""
    prey, home, token = folder / "prey", folder / "home", folder / "readable" / "token"
    for file in (prey, home / "access.json", home / "secrets" / "encryption_keys", token):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
        file.chmod(0o644)  # what refuses it must not be the mode
    return {
        "GINKGO_HOME": str(home),
        "GINKGO_STRATEGY_READS": str(token.parent),
        "GINKGO_STRATEGY_HIDES": str(token),
        "GINKGO_FAULTY_PREY": str(prey),
        "GINKGO_STRATEGY_ENVIRONMENT": "GINKGO_FAULTY_PREY",
    }


@in_a_ward
async def test_strategy_that_removes_files_is_refused(wards: Wards) -> None:
    ward = await wards.get()
    await ward.admit("remove_files")
    died = await ward.first_death()
    assert ("Permission denied" in died.error) is CAN_REFUSE_FILES
    assert ward.daemons.directory.joinpath("prey").exists() is CAN_REFUSE_FILES
    await ward.assert_bystanders_noticed_nothing()
    await ward.dismiss()


@in_a_ward
async def test_strategy_that_steals_secrets_gets_none(wards: Wards) -> None:
    ward = await wards.get()
    await ward.admit("steal_secrets")
    died = await ward.first_death()
    assert "RuntimeError: fails on purpose after 9 attempts" in died.error

    def told() -> list[str]:
        return [text for _, number, _, text in ward.gateway.log_lines if number in ward.bad]

    await ward.gateway.until(lambda: any("9 attempts" in line for line in told()))
    stolen = [text for text in told() if text.startswith("stolen")]
    assert (stolen == []) is (CAN_REFUSE_CALLS and CAN_REFUSE_FILES), stolen
    assert len([text for text in told() if text.startswith("refused")]) + len(stolen) >= 9
    await ward.assert_bystanders_noticed_nothing()
    await ward.dismiss()


@in_a_ward
async def test_noisy_or_busy_strategy_continues_without_harming_others(wards: Wards) -> None:
    ward = await wards.get()
    logged = len(ward.daemons.log())
    await ward.admit("print_a_lot", "spin_in_a_thread")
    await ward.gateway.until(lambda: all(ward.gateway.committed(p) > 100 for p in ward.bad))
    await ward.assert_bystanders_noticed_nothing()
    assert ward.deaths() == []
    await ward.dismiss()
    assert len(ward.daemons.log()) < logged + 50_000


@in_a_ward
async def test_missing_kernel_protections_are_logged_once(wards: Wards) -> None:
    ward = await wards.get()
    await ward.admit("exit_process", "exit_process")
    await ward.gateway.until(lambda: {died.portfolio for died in ward.deaths()} == {*ward.bad})
    assert re.findall("not fully sandboxed: (.*)", ward.daemons.log()) == LACKING
    await ward.dismiss()


@in_a_ward
async def test_slow_portfolio_reports_its_lag_without_slowing_others(wards: Wards) -> None:
    ward = await wards.get()
    await ward.run(ward.grant("sleeper", {"seconds": 0.05}))

    def lags() -> bool:
        newest = {a.portfolio: a.lag for a in ward.gateway.beats[-1][1].portfolios}
        return newest.get(ward.bad[0], 0) > 200 > 100 > newest[CANARY]

    await ward.gateway.until(lags)
    await ward.assert_bystanders_noticed_nothing()
    assert ward.deaths() == []
    await ward.dismiss()


@in_a_ward
async def test_work_before_a_bad_event_is_kept_however_the_strategy_fails(wards: Wards) -> None:
    ward = await wards.get(hangs=True)
    actions = ("interrupt", "kill_itself", "sleep")
    await ward.admit(*actions)

    def second_death(portfolio: int) -> wire.ProcessExited | None:
        return next(iter([d for d in ward.deaths() if d.portfolio == portfolio][1:]), None)

    for what, portfolio in zip(actions, ward.bad, strict=True):
        await ward.gateway.until(lambda: second_death(portfolio))  # noqa: B023
        run, second = ward.gateway.runs[portfolio], second_death(portfolio)
        assert second is not None
        bad_seq = run.commits[0].from_seq + AT_EVENT
        assert (second.seq, second.failed_seq) == (bad_seq - 1, bad_seq), what
        assert f"at seq {bad_seq}" in second.error, what
        assert run.last_seq == bad_seq - 1, what
    await ward.dismiss()


# --- where the kernel cannot refuse it ------------------------------------------------------------


@in_a_ward
@pytest.mark.parametrize("what", ["fork", "fork_daemons", "spawn"])
async def test_without_the_sandbox_processes_of_a_strategy_end_with_it(
    wards: Wards, what: str
) -> None:
    ward = await wards.get(sandboxed=False)
    await ward.admit(what)
    await ward.gateway.until(lambda: len(family(ward.daemon.pid)) > 3, every_s=0.05)
    started = family(ward.daemon.pid)
    await ward.dismiss()
    # The forkserver and the canary; also of those that are nobody's children any more.
    await ward.gateway.until(lambda: len(alive(started)) == 2, every_s=0.05)
    await ward.assert_bystanders_noticed_nothing()


@in_a_ward
async def test_a_forkserver_killed_by_a_strategy_without_a_sandbox_is_reported_and_restarted(
    wards: Wards,
) -> None:
    ward = await wards.get(sandboxed=False)
    await ward.admit("kill_parent")
    died = await ward.first_death()
    assert "ended together with the forkserver" in died.error
    await ward.dismiss()
    await continue_for(ward.gateway)
    assert_canary_is_exact(ward.gateway, CANARY)


async def test_idle_portfolios_lose_no_attempt_when_the_forkserver_ends(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    began = gateway.segments[0].from_time_us
    gateway.segments = [wire.SegmentInfo(0, began, 100.0), wire.SegmentInfo(1000, began + 1, 0.0)]
    for portfolio in (1, 2):
        gateway.grant("node-1", portfolio, last_seq=1000)
    await gateway.want("node-1", gateway.entry(1, "run"), gateway.entry(2, "run"))
    daemon = await daemons.start()
    await gateway.until(lambda: all(gateway.committed(p) == 0 for p in (1, 2)))
    before = family(daemon.pid)
    assert len(before) == 3
    await asyncio.sleep(0.2)  # longer than "just now"
    psutil.Process(daemon.pid).children()[0].kill()
    await gateway.until(lambda: all(len(gateway.runs[p].commits) == 2 for p in (1, 2)))
    await gateway.until(lambda: not alive(before))
    assert reports(gateway, wire.ProcessExited) == []


async def test_strategy_module_is_found_after_its_folder_was_modified(
    gateway: FakeGateway, daemons: Daemons, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from portfolios.strategies.canary import Canary\n\n\n"
        "class Mine(Canary):\n    name = 'mine'\n    version = 1\n"
    )
    await run_canary(
        gateway,
        daemons,
        PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}",
        GINKGO_HOME=str(tmp_path / "home"),
        GINKGO_STRATEGIES="mine",
    )
    os.utime(tmp_path, (0, 0))  # as a file that is added does
    gateway.grant("node-1", BAD)
    mine = gateway.entry(BAD, "run", strategy="mine")
    await gateway.want("node-1", gateway.entry(CANARY, "run"), mine)
    await gateway.until(
        lambda: gateway.committed(BAD) > 0 or bool(reports(gateway, wire.ProcessExited))
    )
    assert reports(gateway, wire.ProcessExited) == []
