"""Actions of a node for each combination of desired entry and process."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide import reconcile as decide
from scheduling.wire.messages import DesiredEntry

NOW = 1000.0


def entry(role: Any, epoch: int = 3, revision: int = 1, **other: Any) -> DesiredEntry:
    values = {"portfolio": 1, "name": "canary-1", **other}
    return DesiredEntry(role=role, epoch=epoch, revision=revision, **values)


def process(
    phase: str, epoch: int = 3, revision: int = 1, slot: int = 1, **other: Any
) -> decide.Process:
    return decide.Process(slot, 1, epoch, revision, phase, **other)


RUN, OTHER_REVISION = entry("run"), entry("run", revision=2)
AFTER_7, AFTER_8 = entry("run", epoch=4, handoff=7), entry("run", epoch=4, handoff=8)
NEXT, NEXT_REVISION = entry("run", epoch=5), entry("run", epoch=5, revision=2)
OTHER_THAN_PREPARED = entry("run", epoch=4, revision=3, handoff=7)
PREPARE, PREPARE_SAME = entry("prepare", revision=2, handoff=7), entry("prepare", handoff=7)
RELOADED, REPLACED = entry("run", 4, 2, handoff=7), entry("warm", 3, 1, handoff=7)
DRAIN, DRAIN_8, WARM = entry("drain", handoff=7), entry("drain", handoff=8), entry("warm")
OTHER = DesiredEntry(portfolio=2, name="b", role="run", epoch=1, revision=1)

RUNNING, ENDED = process("running"), process("ended", slot=2)
DRAINING, FOR_7 = process("draining", handoff=7), process("prepared", epoch=0, handoff=7)
OLDER, OLD = process("warm", epoch=3, slot=1), process("warm", epoch=4, slot=2)
PREPARED = process("prepared", 0, 2, 2, handoff=7)
FAILED = process("ended", epoch=0, revision=2, handoff=7, ended_at=NOW - 20)
KEPT = process("running", kept_for=7)

Case = tuple[list[DesiredEntry], list[decide.Process], list[decide.Action]]
CASES: dict[str, Case] = {
    "running process of the entry is kept": ([RUN], [RUNNING], []),
    "starting process is kept": ([RUN], [process("starting")], []),
    "missing process is started": ([RUN], [], [decide.Start(RUN)]),
    "prepared process is activated": ([AFTER_7], [FOR_7], [decide.Activate(AFTER_7, 1)]),
    "preparing process is activated":
        ([AFTER_7], [process("preparing", epoch=0, handoff=7)], [decide.Activate(AFTER_7, 1)]),
    "process prepared for another handoff is stopped":
        ([AFTER_8], [FOR_7], [decide.Start(AFTER_8), decide.Stop(1)]),
    "prepared process of another revision is stopped":
        ([OTHER_THAN_PREPARED], [process("prepared", 0, 2, handoff=7)],
         [decide.Start(OTHER_THAN_PREPARED), decide.Stop(1)]),
    "prepare that failed is not activated":
        ([AFTER_7], [process("ended", epoch=0, handoff=7)],
         [decide.Start(AFTER_7), decide.Stop(1)]),
    **{
        f"{phase} process of an older epoch is adopted":
            ([NEXT], [process(phase)], [decide.Adopt(NEXT, 1)])
        for phase in ("starting", "running", "draining", "warm")
    },
    "process of the highest earlier epoch is adopted and the other stopped":
        ([NEXT], [OLDER, OLD], [decide.Adopt(NEXT, 2), decide.Stop(1)]),
    "process of another revision is not adopted":
        ([NEXT_REVISION], [RUNNING], [decide.Start(NEXT_REVISION), decide.Stop(1)]),
    "process of a higher epoch is not adopted":
        ([RUN], [process("running", epoch=4)], [decide.Start(RUN), decide.Stop(1)]),
    "process of this epoch and another revision is not kept":
        ([OTHER_REVISION], [RUNNING], [decide.Start(OTHER_REVISION), decide.Stop(1)]),
    "draining source does not count as prepared":
        ([PREPARE_SAME, DRAIN], [DRAINING], [decide.Prepare(PREPARE_SAME)]),
    "draining process resumes after its handoff": ([RUN], [DRAINING], [decide.Resume(1)]),
    "reload prepares beside the process that runs":
        ([RUN, PREPARE], [RUNNING], [decide.Prepare(PREPARE)]),
    "begun prepare is not repeated":
        ([RUN, PREPARE], [RUNNING, process("preparing", 0, 2, 2, handoff=7)], []),
    "failed prepare is not repeated": ([PREPARE], [FAILED], []),
    "reload activates the new process and keeps the old one warm":
        ([RELOADED, REPLACED], [process("warm", handoff=7), PREPARED],
         [decide.Activate(RELOADED, 2)]),
    "running process is drained": ([DRAIN], [RUNNING], [decide.Drain(DRAIN, 1)]),
    "begun drain is not repeated while it drains": ([DRAIN], [DRAINING], []),
    "begun drain is not repeated once it is warm": ([DRAIN], [process("warm", handoff=7)], []),
    "release answered keep is not repeated for its handoff": ([DRAIN], [KEPT], []),
    "release answered keep is tried for another handoff":
        ([DRAIN_8], [KEPT], [decide.Drain(DRAIN_8, 1)]),
    **{
        f"drain of a process that is {phase} releases":
            ([DRAIN], [process(phase)], [decide.ReleaseAbsent(DRAIN, 1)])
        for phase in ("waiting", "ended")
    },
    "drain without a process releases": ([DRAIN], [], [decide.ReleaseAbsent(DRAIN)]),
    "warm entry freezes a running process": ([WARM], [RUNNING], [decide.Freeze(1)]),
    "warm process stays warm": ([WARM], [process("warm")], []),
    "warm entry starts nothing": ([WARM], [], []),
    "process without an entry is stopped": ([], [RUNNING, ENDED], [decide.Stop(1), decide.Stop(2)]),
    "portfolios do not disturb each other": ([RUN, OTHER], [RUNNING], [decide.Start(OTHER)]),
    "unreported exit is not restarted":
        ([RUN], [process("waiting", ended_at=NOW - 60, reported=False)], []),
    "fenced process waits for two seconds":
        ([RUN], [process("ended", ended_at=NOW - 1)], [decide.Wait(1, NOW + 1)]),
    "fenced process restarts after two seconds":
        ([RUN], [process("ended", ended_at=NOW - 2)], [decide.Start(RUN, 1)]),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "processes", "actions"), CASES.values(), ids=CASES)
def test_reconcile_chooses_the_action_for_each_entry_and_process(
    entries: list[DesiredEntry], processes: list[decide.Process], actions: list[decide.Action]
) -> None:
    assert decide.reconcile(entries, processes, NOW) == actions


@pytest.mark.parametrize(
    ("wanted", "exited", "until_s"),
    [
        (entry("run", attempts=2), process("waiting", ended_at=NOW - 4.9), 0.1),  # of 5 s
        (RUN, process("waiting", ended_at=NOW - 2, failures=3), 28),  # failures on this node count
        (entry("run", epoch=4, attempts=1), process("waiting", ended_at=NOW - 0.5, reported=False),
         0.5),  # a new epoch keeps the back-off
    ],
    ids=["attempts", "local failures", "new epoch"],
)  # fmt: skip
def test_exited_process_restarts_after_its_back_off(
    wanted: DesiredEntry, exited: decide.Process, until_s: float
) -> None:
    assert decide.reconcile([wanted], [exited], NOW) == [decide.Wait(1, NOW + until_s)]
    assert decide.reconcile([wanted], [exited], NOW + until_s + 0.1) == [decide.Start(wanted, 1)]


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 0), (1, 1), (2, 5), (3, 30), (9, 30)])
def test_back_off_grows_to_its_maximum(attempts: int, seconds: float) -> None:
    assert decide.back_off_s(attempts) == seconds
