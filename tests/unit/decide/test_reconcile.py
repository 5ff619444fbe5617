"""Actions of a node for each combination of desired entry and process."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide.reconcile import (
    Activate,
    Adopt,
    Drain,
    Freeze,
    Prepare,
    Process,
    ReleaseAbsent,
    Resume,
    Start,
    Stop,
    Wait,
    back_off_s,
    reconcile,
)
from scheduling.wire.messages import DesiredEntry

NOW = 1000.0


def entry(role: str, epoch: int = 3, revision: int = 1, **other: Any) -> DesiredEntry:
    return DesiredEntry(
        portfolio=1,
        name="canary-1",
        role=role,  # type: ignore[arg-type]
        epoch=epoch,
        revision=revision,
        **other,
    )


def process(phase: str, epoch: int = 3, revision: int = 1, slot: int = 1, **other: Any) -> Process:
    return Process(slot, 1, epoch, revision, phase, **other)


def test_running_process_of_the_entry_is_kept() -> None:
    assert reconcile([entry("run")], [process("running")], NOW) == []


def test_starting_process_is_kept() -> None:
    assert reconcile([entry("run")], [process("starting")], NOW) == []


def test_missing_process_is_started() -> None:
    wanted = entry("run", attempts=3)
    assert reconcile([wanted], [], NOW) == [Start(wanted)]


def test_prepared_process_is_activated() -> None:
    wanted = entry("run", epoch=4, handoff=7)
    prepared = process("prepared", epoch=0, handoff=7)
    assert reconcile([wanted], [prepared], NOW) == [Activate(wanted, 1)]


def test_preparing_process_is_activated() -> None:
    wanted = entry("run", epoch=4, handoff=7)
    preparing = process("preparing", epoch=0, handoff=7)
    assert reconcile([wanted], [preparing], NOW) == [Activate(wanted, 1)]


def test_process_prepared_for_another_handoff_is_stopped() -> None:
    wanted = entry("run", epoch=4, handoff=8)
    prepared = process("prepared", epoch=0, handoff=7)
    assert reconcile([wanted], [prepared], NOW) == [Start(wanted), Stop(1)]


def test_prepared_process_of_another_revision_is_stopped() -> None:
    wanted = entry("run", epoch=4, revision=3, handoff=7)
    prepared = process("prepared", epoch=0, revision=2, handoff=7)
    assert reconcile([wanted], [prepared], NOW) == [Start(wanted), Stop(1)]


@pytest.mark.parametrize("phase", ["starting", "running", "draining", "warm"])
def test_a_process_of_an_older_epoch_is_adopted(phase: str) -> None:
    wanted = entry("run", epoch=5)
    assert reconcile([wanted], [process(phase)], NOW) == [Adopt(wanted, 1)]


def test_process_of_the_highest_earlier_epoch_is_adopted_and_the_other_stopped() -> None:
    wanted = entry("run", epoch=5)
    old, older = process("warm", epoch=4, slot=2), process("warm", epoch=3, slot=1)
    assert reconcile([wanted], [older, old], NOW) == [Adopt(wanted, 2), Stop(1)]


def test_a_process_of_another_revision_is_not_adopted() -> None:
    wanted = entry("run", epoch=5, revision=2)
    assert reconcile([wanted], [process("running")], NOW) == [Start(wanted), Stop(1)]


def test_a_process_of_a_higher_epoch_is_not_adopted() -> None:
    wanted = entry("run", epoch=3)
    assert reconcile([wanted], [process("running", epoch=4)], NOW) == [Start(wanted), Stop(1)]


def test_a_process_of_this_epoch_and_another_revision_is_not_kept() -> None:
    wanted = entry("run", revision=2)
    assert reconcile([wanted], [process("running")], NOW) == [Start(wanted), Stop(1)]


def test_a_prepare_that_failed_is_not_activated() -> None:
    wanted = entry("run", epoch=4, handoff=7)
    failed = process("ended", epoch=0, handoff=7)
    assert reconcile([wanted], [failed], NOW) == [Start(wanted), Stop(1)]


def test_draining_source_does_not_count_as_prepared() -> None:
    new, old = entry("prepare", revision=1, handoff=7), entry("drain", handoff=7)
    draining = process("draining", handoff=7)
    assert reconcile([new, old], [draining], NOW) == [Prepare(new)]


def test_draining_process_resumes_after_its_handoff() -> None:
    draining = process("draining", handoff=7)
    assert reconcile([entry("run")], [draining], NOW) == [Resume(1)]


def test_a_reload_prepares_beside_the_process_that_runs() -> None:
    new = entry("prepare", revision=2, handoff=7)
    assert reconcile([entry("run"), new], [process("running")], NOW) == [Prepare(new)]


def test_begun_prepare_is_not_repeated() -> None:
    new = entry("prepare", revision=2, handoff=7)
    both = [process("running"), process("preparing", 0, 2, 2, handoff=7)]
    assert reconcile([entry("run"), new], both, NOW) == []


def test_failed_prepare_is_not_repeated() -> None:
    new = entry("prepare", revision=2, handoff=7)
    failed = process("ended", epoch=0, revision=2, handoff=7, ended_at=NOW - 20)
    assert reconcile([new], [failed], NOW) == []


def test_reload_activates_the_new_process_and_keeps_the_old_warm() -> None:
    new, old = entry("run", 4, 2, handoff=7), entry("warm", 3, 1, handoff=7)
    both = [process("warm", handoff=7), process("prepared", 0, 2, 2, handoff=7)]
    assert reconcile([new, old], both, NOW) == [Activate(new, 2)]


def test_running_process_is_drained() -> None:
    wanted = entry("drain", handoff=7)
    assert reconcile([wanted], [process("running")], NOW) == [Drain(wanted, 1)]


@pytest.mark.parametrize("phase", ["draining", "warm"])
def test_begun_drain_is_not_repeated(phase: str) -> None:
    assert reconcile([entry("drain", handoff=7)], [process(phase, handoff=7)], NOW) == []


def test_release_answered_keep_is_not_repeated_for_its_handoff() -> None:
    running = process("running", kept_for=7)
    other = entry("drain", handoff=8)
    assert reconcile([entry("drain", handoff=7)], [running], NOW) == []
    assert reconcile([other], [running], NOW) == [Drain(other, 1)]


@pytest.mark.parametrize("phase", ["waiting", "ended"])
def test_drain_of_an_exited_process_releases(phase: str) -> None:
    wanted = entry("drain", handoff=7)
    assert reconcile([wanted], [process(phase)], NOW) == [ReleaseAbsent(wanted, 1)]


def test_drain_without_a_process_releases() -> None:
    wanted = entry("drain", handoff=7)
    assert reconcile([wanted], [], NOW) == [ReleaseAbsent(wanted)]


def test_warm_entry_freezes_a_running_process() -> None:
    assert reconcile([entry("warm")], [process("running")], NOW) == [Freeze(1)]
    assert reconcile([entry("warm")], [process("warm")], NOW) == []
    assert reconcile([entry("warm")], [], NOW) == []


def test_process_without_an_entry_is_stopped() -> None:
    assert reconcile([], [process("running"), process("ended", slot=2)], NOW) == [Stop(1), Stop(2)]


def test_unreported_exit_is_not_restarted() -> None:
    exited = process("waiting", ended_at=NOW - 60, reported=False)
    assert reconcile([entry("run")], [exited], NOW) == []


def test_exited_process_restarts_after_its_back_off() -> None:
    wanted = entry("run", attempts=2)  # 5 s
    exited = process("waiting", ended_at=NOW - 4.9)
    assert reconcile([wanted], [exited], NOW) == [Wait(1, NOW + 0.1)]
    assert reconcile([wanted], [exited], NOW + 0.2) == [Start(wanted, 1)]


def test_local_failures_count_towards_the_back_off() -> None:
    wanted = entry("run", attempts=0)
    exited = process("waiting", ended_at=NOW - 2, failures=3)
    assert reconcile([wanted], [exited], NOW) == [Wait(1, NOW + 28)]


def test_new_epoch_keeps_the_back_off() -> None:
    wanted = entry("run", epoch=4, attempts=1)
    exited = process("waiting", ended_at=NOW - 0.5, reported=False)
    assert reconcile([wanted], [exited], NOW) == [Wait(1, NOW + 0.5)]


def test_fenced_process_restarts_after_two_seconds() -> None:
    wanted = entry("run")
    assert reconcile([wanted], [process("ended", ended_at=NOW - 1)], NOW) == [Wait(1, NOW + 1)]
    assert reconcile([wanted], [process("ended", ended_at=NOW - 2)], NOW) == [Start(wanted, 1)]


def test_portfolios_do_not_disturb_each_other() -> None:
    one, other = entry("run"), DesiredEntry(portfolio=2, name="b", role="run", epoch=1, revision=1)
    assert reconcile([one, other], [process("running")], NOW) == [Start(other)]


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 0), (1, 1), (2, 5), (3, 30), (9, 30)])
def test_back_off_grows_to_its_maximum(attempts: int, seconds: float) -> None:
    assert back_off_s(attempts) == seconds
