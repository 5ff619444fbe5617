"""What django-q2 runs. Three lines each: the work is elsewhere."""

from __future__ import annotations

from scheduling.passes.pass_lock import acquire, release
from scheduling.scheduler import LOCK_WAIT_S, Scheduler


def balance() -> str:
    """One whole tick. It waits for the lock: the sweep, scheduled for the same second, may hold it,
    and where no watcher lives the next try would be 30 s later.
    """
    outcome = Scheduler("worker").tick(patience_s=LOCK_WAIT_S)
    if not outcome.ran or outcome.balance is None:
        return "another pass was under way"
    return f"{len(outcome.balance.requested)} handoffs requested"


def heartbeat_sweep() -> str:
    """Leases and deadlines only."""
    from scheduling.db.transaction import execute

    scheduler = Scheduler("worker")
    if not execute(acquire(scheduler.holder)):
        return "another pass was under way"
    try:
        return f"lost: {', '.join(scheduler.check_heartbeat().lost) or 'none'}"
    finally:
        execute(release(scheduler.holder))


def prune() -> str:
    """Partitions ahead, old rows dropped; old partitions archived by a process of its own."""
    from scheduling.retention import prune as prune_old

    return prune_old()


def verify_in_background() -> str:
    """Have the portfolios verified whose last verification is old, so that each stays short."""
    from scheduling.verification.background import ask_for_due

    return f"{ask_for_due()} asked for"


def verify() -> str:
    """Have the verifications that wait worked off, by a process that no task's limit ends."""
    from scheduling.verification.runner import start_runner

    return f"process {start_runner()} works off what waits"


def refused(func: str, why: str) -> None:
    """Stand in for a task that the queue must not run: record it and fail."""
    from scheduling.task_registry import refuse

    refuse(func, why)
