"""Detection of blocked commits, with the clock of the test."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from scheduling.gateway.commit_health import FORGOTTEN_AFTER_S, CommitHealth


class Story:
    """A commit health, its clock, and attempts that end on request."""

    def __init__(self) -> None:
        self.now = 100.0
        self.health = CommitHealth(lambda: self.now)
        self._attempts: list[asyncio.Task[None]] = []  # the loop alone would let them be collected

    async def begin(self) -> asyncio.Future[Exception | None]:
        """Begin an attempt; it ends as the future says."""
        end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        async def attempt() -> None:
            async with self.health.attempt():
                error = await end
                if error is not None:
                    raise error

        self._attempts.append(asyncio.create_task(attempt()))
        await asyncio.sleep(0)
        return end

    async def end(self, end: asyncio.Future[Exception | None], error: Exception | None) -> None:
        end.set_result(error)
        for _ in range(3):
            await asyncio.sleep(0)


LOCKED = psycopg.errors.LockNotAvailable


async def test_commits_that_wait_for_a_second_count_as_blocked_until_one_succeeds() -> None:
    story = Story()
    assert story.health.blocked_s() is None
    first = await story.begin()
    assert story.health.blocked_s() is None
    story.now += 2
    assert story.health.blocked_s() == 2
    await story.end(first, LOCKED("canceling statement due to lock timeout"))
    story.now += 0.5  # until the daemon repeats it
    assert story.health.blocked_s() == 2.5
    second = await story.begin()
    story.now += 1
    assert story.health.blocked_s() == 3.5
    await story.end(second, None)
    assert story.health.blocked_s() is None


async def test_commits_are_not_blocked_while_any_commit_succeeds() -> None:
    story = Story()
    await story.begin()
    for _ in range(10):
        other = await story.begin()
        story.now += 0.9
        await story.end(other, None)
        assert story.health.blocked_s() is None
    story.now += 1
    assert story.health.blocked_s() == 1


async def test_time_of_last_success_is_known_while_others_are_blocked() -> None:
    story = Story()
    assert story.health.passed_s() is None
    first, second = await story.begin(), await story.begin()
    story.now += 1
    await story.end(first, None)
    story.now += 2
    await story.end(second, LOCKED())
    assert story.health.passed_s() == 2


@pytest.mark.parametrize("error", [psycopg.DataError("overflow"), psycopg.IntegrityError("twice")])
async def test_commit_refused_by_the_database_counts_as_success(error: Exception) -> None:
    story = Story()
    first = await story.begin()
    story.now += 2
    await story.end(first, error)
    assert story.health.blocked_s() is None


async def test_failed_commit_that_is_not_repeated_no_longer_counts_as_blocked() -> None:
    story = Story()
    first = await story.begin()
    story.now += 2
    await story.end(first, LOCKED())
    story.now += FORGOTTEN_AFTER_S
    assert story.health.blocked_s() is not None
    story.now += 0.1
    assert story.health.blocked_s() is None
    await story.begin()
    assert story.health.blocked_s() is None
