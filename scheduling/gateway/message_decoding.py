"""Decode and validate the messages of daemons.

Everything here is linear in the size of a message, and counts are checked before contents are
decoded, since every other node waits meanwhile.
"""

from __future__ import annotations

from typing import Annotated, TypeVar
from uuid import UUID

import msgspec

from portfolios.text import unprintable_in
from scheduling.gateway.http import RequestRejected
from scheduling.wire import messages as wire

M = TypeVar("M", bound=msgspec.Struct)

#: Raised by msgspec for malformed bytes: its own errors, text that is not UTF-8, unbounded nesting.
DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)

MAX_ENTRIES = 1_000  #: labels, strategies or feeds of a registration
MAX_TEXT = 255  #: characters of their keys and values
MAX_METRICS, MAX_METRIC = 100, 64  #: metrics of a heartbeat; characters of the name of one
LARGEST, MAX_LOST = 2**63 - 1, 2**31 - 1  #: the largest numbers that columns hold


def decode(body: bytes, kind: type[M]) -> M:
    """Return the message of type `kind` in `body`. Raise RequestRejected."""
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except DECODE_ERRORS as error:
        name = kind.__name__.strip("_")
        raise _invalid(f"Invalid {name} message: {error}.") from None


def uuid_of(text: str, name: str = "incarnation") -> UUID:
    """Return `text`, the field `name` of a message, as a UUID. Raise RequestRejected."""
    try:
        return wire.uuid_from(text)
    except ValueError:
        raise _invalid(f"The {name} is {text[:40]!r}; it must be a UUID.") from None


class _RawCommitRequest(msgspec.Struct):
    """A CommitRequest whose commits are not decoded yet."""

    incarnation: str
    commits: list[msgspec.Raw]


#: A larger body must hold one commit with a large state, and no unknown field: even to skip 17 MB
#: of the shortest lines takes a fifth of a second. A daemon puts 4 MB into a request.
MAX_MULTI_COMMIT_BODY = 6_000_000


class _SingleCommit(wire.Commit, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A commit without unknown fields."""


class _SingleCommitRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A CommitRequest with one commit."""

    incarnation: str
    commits: Annotated[list[_SingleCommit], msgspec.Meta(max_length=1)]


_SINGLE_COMMIT_REQUEST = msgspec.msgpack.Decoder(_SingleCommitRequest)
_RAW_COMMIT_REQUEST = msgspec.msgpack.Decoder(_RawCommitRequest)
_COMMIT = msgspec.msgpack.Decoder(wire.Commit)


def decode_commits(body: bytes) -> tuple[UUID, list[wire.Commit]]:
    """Return the incarnation and the commits of a CommitRequest, at most one per portfolio.

    Commits are decoded one by one: a body of the largest size can hold 1.7 million order lines, and
    decoding them at once takes a second in which no other node is served.
    """
    if len(body) > MAX_MULTI_COMMIT_BODY:
        return _decode_single_commit(body)
    commits: list[wire.Commit] = []
    lines = 0
    try:
        request = _RAW_COMMIT_REQUEST.decode(body)
        if len(request.commits) > wire.MAX_COMMITS:
            raise _too_many("commits", len(request.commits), wire.MAX_COMMITS)
        for raw in request.commits:
            commit = _COMMIT.decode(raw)
            lines += len(commit.orders) + len(commit.fills) + len(commit.equity)
            lines += len(commit.ended) + len(commit.metrics)
            if lines > wire.MAX_LINES:
                raise _too_many("orders, fills and other lines", lines, wire.MAX_LINES)
            commits.append(commit)
    except DECODE_ERRORS as error:
        raise _invalid(f"Invalid CommitRequest message: {error}.") from None
    seen: set[int] = set()
    for commit in commits:
        if commit.portfolio in seen:
            raise _invalid(
                f"The portfolio with id {commit.portfolio} occurs twice in one request; "
                "nothing was done."
            )
        seen.add(commit.portfolio)
    return uuid_of(request.incarnation), commits


def _decode_single_commit(body: bytes) -> tuple[UUID, list[wire.Commit]]:
    """Return what `decode_commits` returns, for a large body. Raise RequestRejected 413."""
    try:
        request = _SINGLE_COMMIT_REQUEST.decode(body)
    except DECODE_ERRORS as error:
        raise RequestRejected(
            413,
            "payload_too_large",
            f"A body of more than {MAX_MULTI_COMMIT_BODY:,} bytes is accepted only if it holds a"
            f" single commit and no unknown field. This one, of {len(body):,} bytes, does not:"
            f" {error}. Send several commits in smaller bodies.",
        ) from None
    return uuid_of(request.incarnation), list(request.commits)


def decode_heartbeat(body: bytes) -> wire.Heartbeat:
    """Return the Heartbeat in `body`. Raise RequestRejected."""
    message = decode(body, wire.Heartbeat)
    uuid_of(message.incarnation)
    if len(message.reports) > wire.MAX_REPORTS:
        raise _too_many("reports", len(message.reports), wire.MAX_REPORTS)
    if len(message.portfolios) > wire.MAX_PORTFOLIOS:
        raise _too_many("portfolios", len(message.portfolios), wire.MAX_PORTFOLIOS)
    if len(message.metrics) > MAX_METRICS:
        raise _too_many("metrics", len(message.metrics), MAX_METRICS)
    for name in message.metrics:
        if not name or len(name) > MAX_METRIC or unprintable_in(name):
            raise _invalid(
                f"The name of a metric is {name[:40]!r}, {len(name):,} characters long; it must "
                f"have 1 to {MAX_METRIC} characters, none of them control or bidirectional."
            )
    return message


def decode_log(body: bytes) -> wire.LogRequest:
    """Return the LogRequest in `body`. Raise RequestRejected."""
    message = decode(body, wire.LogRequest)
    lines = sum(len(stream.lines) for stream in message.streams)
    for what, found in (("lines", lines), ("streams", len(message.streams))):
        if found > wire.MAX_LOG_LINES:
            raise _too_many(what, found, wire.MAX_LOG_LINES)
    for stream in message.streams:
        for name in ("portfolio", "epoch", "handoff"):
            number = getattr(stream, name) or 0
            if not 0 <= number <= LARGEST:
                raise _invalid(f"The {name} of some log lines is {number}; use 0 to {LARGEST}.")
        for line in stream.lines:
            if not 0 <= line.lost <= MAX_LOST:
                raise _invalid(
                    f"Portfolio {stream.portfolio} has a log line whose count of lost lines, "
                    f"`lost`, is {line.lost}; use 0 to {MAX_LOST}."
                )
    return message


def validate_registration(message: wire.Register) -> None:
    """Raise RequestRejected for a text that cannot be shown, too many entries, or no capacity."""
    if message.capacity < 1:
        raise _invalid(f"capacity is {message.capacity}; it must be at least 1.")
    for name in ("labels", "host", "version", "python", "strategies", "feeds"):
        if found := unprintable_in(getattr(message, name)):
            raise _invalid(
                f"The registration has the control or bidirectional character U+{ord(found):04X} "
                f"in {name}; remove it."
            )
    for name in ("labels", "strategies", "feeds"):
        entries = getattr(message, name)
        if len(entries) > MAX_ENTRIES:
            raise _too_many(name, len(entries), MAX_ENTRIES)
        for key, value in entries.items():
            if len(key) > MAX_TEXT or (isinstance(value, str) and len(value) > MAX_TEXT):
                raise _invalid(
                    f"The entry {key[:40]!r} of {name} has a key or value of over {MAX_TEXT} "
                    "characters; shorten it."
                )


def _invalid(message: str) -> RequestRejected:
    return RequestRejected(400, "invalid", message)


def _too_many(what: str, found: int, most: int) -> RequestRejected:
    return RequestRejected(
        413,
        "payload_too_large",
        f"The message has {found:,} {what}, limit {most:,}; send fewer at a time.",
    )
