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
LIMIT = r"took longer than its limit of [\d.]+ s: look for an endless loop .* on the node"
REFUSED = r"PermissionError: \[Errno 1\] Operation not permitted in misbehaving at seq \d+"
BATCH_S = 0.5  #: on a busy machine, a batch of the canary takes a second as well
ENDLESS_S = 30.0  #: for what ends by itself, or goes on
LIMITS = {"GINKGO_CHILD_MEMORY_MB": "384"}


class Ward:
    """A daemon with a canary, to which misbehaving strategies come one after another."""

    def __init__(self, gateway: FakeGateway, daemon: Daemon) -> None:
        self.gateway, self.daemon = gateway, daemon
        self.bad = CANARY  #: the portfolio that misbehaves now
        self._commits_before = 0

    @classmethod
    async def start(
        cls,
        gateway: FakeGateway,
        daemons: Daemons,
        batch_limit_s: float = ENDLESS_S,
        **environment: str,
    ) -> Ward:
        """Start a daemon, and wait for the canary's first commits."""
        limits = LIMITS | {"GINKGO_BATCH_LIMIT_S": f"{batch_limit_s:g}"}
        given = {"GINKGO_STRATEGIES": FAULTY} | limits | environment
        return cls(gateway, await run_canary(gateway, daemons, **given))

    async def admit(self, what: str) -> None:
        """Run a strategy that does `what` at its 20th event."""
        self.bad += 1
        self._commits_before = len(self.gateway.runs[CANARY].commits) - 1
        self.gateway.grant("node-1", self.bad)
        parameters = {"action": what, "at_event": 20}
        bad = self.gateway.entry(self.bad, "run", strategy="misbehaving", parameters=parameters)
        await self.gateway.want("node-1", self.gateway.entry(CANARY, "run"), bad)

    async def dismiss(self) -> None:
        """Remove what misbehaves and wait until only the forkserver and the canary are left."""
        await self.gateway.want("node-1", self.gateway.entry(CANARY, "run"))
        await self.gateway.until(lambda: len(alive(family(self.daemon.pid))) == 2, every_s=0.05)

    def deaths(self) -> list[wire.ProcessExited]:
        """Return the reports of exited processes, without those of strategies before."""
        found = [r for _, r in self.gateway.reports if isinstance(r, wire.ProcessExited)]
        return [died for died in found if died.portfolio in (CANARY, self.bad)]

    async def first_death(self) -> wire.ProcessExited:
        await self.gateway.until(self.deaths)
        return self.deaths()[0]

    async def assert_bystanders_noticed_nothing(self) -> None:
        await continue_for(self.gateway)
        assert self.gateway.longest_gap_s(CANARY, self._commits_before) < budget_s(GAP_S)
        assert {died.portfolio for died in self.deaths()} == {self.bad}
        assert self.daemon.returncode is None
        assert len(self.gateway.registered) == 1
        assert_canary_is_exact(self.gateway, CANARY)


class Wards:
    """Wards by the limit of a batch, each started when it is first needed."""

    def __init__(self, opened: AsyncExitStack, folders: pytest.TempPathFactory) -> None:
        self._opened, self._folders = opened, folders
        self._wards: dict[bool, Ward] = {}

    async def get(self, *, hangs: bool) -> Ward:
        found = self._wards.get(hangs)
        if found is None or found.daemon.returncode is not None:
            gateway = await self._opened.enter_async_context(FakeGateway())
            daemons = Daemons(gateway, self._folders.mktemp("ward"))
            self._opened.push_async_callback(daemons.end)
            limit_s = budget_s(BATCH_S) if hangs else ENDLESS_S
            found = self._wards[hangs] = await Ward.start(gateway, daemons, limit_s)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wards(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wards]:
    async with AsyncExitStack() as opened:
        yield Wards(opened, tmp_path_factory)


BY_THE_FILTER = [
    ("kill_parent", "event", REFUSED),
    ("kill_all_processes", "event", REFUSED),
    ("fork", "event", REFUSED),
    ("fork_daemons", "event", REFUSED),
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
        ("stop_itself", "killed", LIMIT),
        ("sleep", "killed", LIMIT),
        ("ignore_signals", "killed", LIMIT),
        ("allocate_fast", "event", r"MemoryError: .*at seq \d+"),
        ("allocate_slowly", "event", r"MemoryError: .*at seq \d+"),
        ("thread_bomb", "event", "RuntimeError: can't start new thread"),
        ("recurse", "event", "RecursionError: maximum recursion depth exceeded .*at seq"),
        ("open_files_endlessly", "event", "Too many open files"),
        ("fill_the_disk", "event", r"(Permission denied|File too large).*at seq \d+"),
        ("print_endlessly", "killed", f"{LIMIT}; its last output: .*endless output"),
        ("write_to_stderr", "killed", f"{LIMIT}; its last output: …?x+"),
        ("write_long_line", "killed", LIMIT),
        ("close_everything", "exit", "its process (exited with status|closed its socket)"),
        ("send_garbage", "exit", "its process answered"),
        ("announce_oversized_reply", "exit", "its process answered with 4294967295 bytes, limit"),
        ("send_malformed_reply", "exit", "its process answered with 5 malformed bytes"),
        (
            "report_future_seq",
            "exit",
            r"its process answered with a result whose .* is \(0, 1000000000000, ",
        ),
        ("reply_too_often", "exit", "its process answered"),
        ("change_process_globals", "event", "RuntimeError: the process was changed"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_misbehaving_strategy_ends_with_its_reason_and_harms_no_other_portfolio(
    wards: Wards, what: str, stage: str, sentence: str
) -> None:
    ward = await wards.get(hangs=stage == "killed")
    await ward.admit(what)
    died = await ward.first_death()
    assert re.search(sentence, died.error), died.error
    assert died.stage == stage
    assert died.error.isprintable()
    assert len(died.error) < 700
    await ward.assert_bystanders_noticed_nothing()
    await ward.dismiss()
    assert psutil.Process(ward.daemon.pid).memory_info().rss < 150e6


async def test_strategy_that_removes_files_is_refused(
    gateway: FakeGateway, daemons: Daemons, tmp_path: Path
) -> None:
    prey = tmp_path / "prey"
    prey.touch()
    ward = await Ward.start(
        gateway,
        daemons,
        GINKGO_FAULTY_PREY=str(prey),
        GINKGO_STRATEGY_ENVIRONMENT="GINKGO_FAULTY_PREY",
    )
    await ward.admit("remove_files")
    died = await ward.first_death()
    assert ("Permission denied" in died.error) is CAN_REFUSE_FILES
    assert prey.exists() is CAN_REFUSE_FILES
    await ward.assert_bystanders_noticed_nothing()


async def test_strategy_that_steals_secrets_gets_none(
    gateway: FakeGateway, daemons: Daemons, tmp_path: Path
) -> None:
    home, token = tmp_path / "home", tmp_path / "readable" / "token"
    for file in (home / "access.json", home / "secrets" / "encryption_keys", token):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
        file.chmod(0o644)  # what refuses it must not be the mode
    ward = await Ward.start(
        gateway,
        daemons,
        GINKGO_HOME=str(home),
        GINKGO_STRATEGY_READS=str(token.parent),
        GINKGO_STRATEGY_HIDES=str(token),
    )
    await ward.admit("steal_secrets")
    died = await ward.first_death()
    assert "RuntimeError: 9 attempts" in died.error
    await gateway.until(lambda: any("9 attempts" in line[3] for line in gateway.log_lines))
    told = [text for _, portfolio, _, text in gateway.log_lines if portfolio == BAD]
    stolen = [text for text in told if text.startswith("stolen")]
    assert (stolen == []) is (CAN_REFUSE_CALLS and CAN_REFUSE_FILES), stolen
    assert len([text for text in told if text.startswith("refused")]) + len(stolen) >= 9
    await ward.assert_bystanders_noticed_nothing()


async def test_noisy_or_busy_strategy_continues_without_harming_others(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    ward = await Ward.start(gateway, daemons)
    for what in ("print_a_lot", "spin_in_a_thread"):
        await ward.admit(what)
        await gateway.until(lambda: gateway.committed(ward.bad) > 300)
        assert reports(gateway, wire.ProcessExited) == [], what
        assert gateway.longest_gap_s(CANARY) < budget_s(GAP_S), what
        await ward.dismiss()
    assert len(daemons.log()) < 50_000
    assert_canary_is_exact(gateway, CANARY)


async def test_missing_kernel_protections_are_logged_once(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    ward = await Ward.start(gateway, daemons)
    await ward.admit("exit_process")
    await ward.first_death()
    said = re.findall("not fully sandboxed: (.*)", daemons.log())
    assert said == LACKING


# --- where the kernel cannot refuse it ------------------------------------------------------------


async def test_without_the_sandbox_processes_of_a_strategy_end_with_it(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    ward = await Ward.start(gateway, daemons, GINKGO_STRATEGY_GUARD="no")
    for what in ("fork", "fork_daemons", "spawn"):
        await ward.admit(what)
        await gateway.until(lambda: len(family(ward.daemon.pid)) > 3, every_s=0.05)
        started = family(ward.daemon.pid)
        await ward.dismiss()
        # The forkserver and the canary; also of those that are nobody's children any more.
        await gateway.until(lambda: len(alive(started)) == 2, every_s=0.05)  # noqa: B023
    assert gateway.longest_gap_s(CANARY) < budget_s(GAP_S)
    assert_canary_is_exact(gateway, CANARY)


async def test_processes_that_a_strategy_without_a_sandbox_kills_are_reported_and_restarted(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    ward = await Ward.start(gateway, daemons, GINKGO_STRATEGY_GUARD="no")
    await ward.admit("kill_parent")
    died = await ward.first_death()
    assert "ended together with the forkserver" in died.error
    await ward.dismiss()
    await continue_for(gateway)
    assert_canary_is_exact(gateway, CANARY)


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


async def test_slow_portfolio_reports_its_lag_without_slowing_others(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.next_beat_s = 0.5
    gateway.grant("node-1", CANARY)
    gateway.grant("node-1", BAD)
    slow = gateway.entry(BAD, "run", strategy="sleeper", parameters={"seconds": 0.05})
    await gateway.want("node-1", gateway.entry(CANARY, "run"), slow)
    await daemons.start(GINKGO_STRATEGIES=FAULTY, GINKGO_BATCH_LIMIT_S="20")

    def shown(portfolio: int) -> wire.ProcessStatus | None:
        found = [a for a in gateway.beats[-1][1].portfolios if a.portfolio == portfolio]
        return found[0] if found else None

    def lags() -> bool:
        slow, quick = shown(BAD), shown(CANARY)
        return slow is not None and quick is not None and slow.lag > 200 > 100 > quick.lag

    await gateway.until(lambda: gateway.beats and lags())
    assert reports(gateway, wire.ProcessExited) == []
    assert gateway.longest_gap_s(CANARY) < budget_s(GAP_S)
    assert_canary_is_exact(gateway, CANARY)


@pytest.mark.parametrize("what", ["interrupt", "kill_itself", "sleep"])
@pytest.mark.slow
async def test_work_before_a_bad_event_is_kept_however_the_strategy_fails(
    gateway: FakeGateway, daemons: Daemons, what: str
) -> None:
    ward = await Ward.start(gateway, daemons, budget_s(BATCH_S))
    await ward.admit(what)
    await gateway.until(lambda: gateway.runs[BAD].commits)
    bad_seq = gateway.runs[BAD].commits[0].from_seq + 20
    await gateway.until(lambda: len(reports(gateway, wire.ProcessExited)) >= 2)
    second = reports(gateway, wire.ProcessExited)[1]
    assert isinstance(second, wire.ProcessExited)
    assert (second.seq, second.failed_seq) == (bad_seq - 1, bad_seq)
    assert f"at seq {bad_seq}" in second.error
    assert gateway.runs[BAD].last_seq == bad_seq - 1


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
