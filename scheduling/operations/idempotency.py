"""Requests that a client may repeat: each acts once, and its repeats get the same answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg.errors import LockNotAvailable

from scheduling.db.transaction import beginning_with, execute
from scheduling.enact import idempotency as enact
from scheduling.enact.idempotency import Claim
from scheduling.errors import Refused

#: How long a statement waits for a locked row: `lock_timeout` in `ginkgo_site/sessions.py`.
LOCK_WAIT_S = 5.0
#: Characters of the largest answer that is kept. A list of 1,000 created names has 20,000.
MAX_BODY = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request, as its repeats get it."""

    status: int
    headers: dict[str, str]
    body: str


def claim_key(user: int, key: str, fingerprint: str) -> Claim | Answer:
    """Return the right to act under the key, or the answer to the request that has acted.

    Raise Refused if the key belongs to another request, or the answer is not there yet or not kept.
    """
    try:
        found = execute(enact.claim_key(user, key, fingerprint))
    except LockNotAvailable:
        # The first request is still acting: its transaction held the row for all of LOCK_WAIT_S.
        raise _in_progress(LOCK_WAIT_S) from None
    if isinstance(found, Claim):
        return found
    if found is None:  # the first request has just released the key: a repeat may act
        raise _in_progress(0)
    if found.fingerprint != fingerprint:
        raise Refused(
            "key_reused",
            f"The Idempotency-Key {key} belongs to another request, with another method, address "
            "or body. Nothing was done; send each new request with a new key.",
            status=422,
        )
    if found.is_kept:
        assert found.status is not None, "a kept answer has a status"
        return Answer(found.status, found.headers, found.body)
    if found.answered or (found.acted and found.age_s > enact.CLAIM_S):
        answered = f" with status {found.status}" if found.answered else ""
        raise Refused(
            "answer_not_kept",
            f"The request with the Idempotency-Key {key} was carried out {found.age_s:.0f} s ago"
            f"{answered}. Its answer was not kept, and it is not done again. Read the object and "
            "the audit log before you act again, with a new key.",
        )
    raise _in_progress(found.age_s)


def _in_progress(age_s: float) -> Refused:
    """Return the refusal of a repeat whose first request has run for `age_s`, without an answer."""
    # A request that has run for long will take long. After CLAIM_S its process counts as ended,
    # and a repeat acts.
    wait_s = max(1, min(math.ceil(age_s), math.ceil(enact.CLAIM_S - age_s)))
    return Refused(
        "request_in_progress",
        f"A request with this Idempotency-Key has been running for {age_s:.1f} s. Repeat it "
        f"in {wait_s} s to get its answer.",
        retry_after_s=wait_s,
    )


@contextmanager
def acting_under(claim: Claim) -> Iterator[None]:
    """Record in every transaction of the block that the request with this claim has acted.

    Each of these transactions raises Refused `request_in_progress` if a repeat has taken over the
    key. The record is taken back only if an action outside of the database did nothing.
    """
    with beginning_with(lambda: enact.mark(claim), undone_by=lambda: enact.unmark(claim)):
        yield


def keep_answer(claim: Claim, answer: Answer, *, repeatable: bool) -> None:
    """Keep the answer for repeats, without its body if that is too large or not `repeatable`.

    Without its body a repeat is refused. A body is not `repeatable` if it shows a token.
    """
    is_kept = repeatable and len(answer.body) <= MAX_BODY
    body = answer.body if is_kept else None
    execute(enact.answer(claim, answer.status, answer.headers, body))


def release(claim: Claim) -> None:
    """Forget the key of a request that failed, unless it acted before: then repeats are refused."""
    execute(enact.release(claim))
