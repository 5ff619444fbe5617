"""Compare two states byte by byte, and describe the first difference."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import zstandard

from portfolios.runtime.errors import StateUnreadable
from portfolios.runtime.state import (
    Account,
    Processed,
    decode_state,
    decompress_state,
    encode_state,
)
from portfolios.verify.types import Difference, RecordedRun


def canonical_bytes(state: bytes) -> bytes:
    """Return the bytes of a state without the compression, whose level may change.

    Raise StateUnreadable if they cannot be decompressed.
    """
    try:
        return decompress_state(state)
    except (zstandard.ZstdError, ValueError) as error:
        raise StateUnreadable(f"its bytes cannot be unpacked: {error}") from error


def state_digest(state: bytes) -> str:
    """Return the sha256 of the state's canonical bytes, as hex."""
    return hashlib.sha256(canonical_bytes(state)).hexdigest()


def _account_of(state: bytes | None) -> Account | None:
    """Return the account of a stored state; None if there is no state or it is unreadable."""
    try:
        return None if state is None else decode_state(state).account
    except StateUnreadable:
        return None


def processed_events(state: bytes | None) -> Processed | None:
    """Return the event count and digest in a stored state; None if it has none or is unreadable."""
    account = _account_of(state)
    return None if account is None else account.processed


def without_event_count(state: bytes) -> bytes:
    """Return the state as versions of Ginkgo that counted no events would have encoded it."""
    decoded = decode_state(state)
    decoded.forget_count()
    return encode_state(decoded)


def figures_since(state: bytes | None) -> int | None:
    """Return the first event of the figures of a stored state; None if there are none."""
    account = _account_of(state)
    return None if account is None or account.figures is None else account.figures.since


def without_figures(state: bytes) -> bytes:
    """Return the state as versions without figures (turnover, drawdowns) would have encoded it."""
    decoded = decode_state(state)
    decoded.account.figures = None
    return encode_state(decoded)


def compare_states(recorded: RecordedRun, wanted: bytes) -> Difference | None:
    """Return the first difference between the stored state and `wanted`, or None."""
    assert recorded.state is not None
    seq = recorded.to_seq

    def differs(field: str, found: str, want: str) -> Difference:
        what = f"state after seq {seq}"
        return Difference(seq, "state", what, field, found, want, recorded.at(seq).where)

    try:
        found_bytes = canonical_bytes(recorded.state)
        found = msgspec.msgpack.decode(found_bytes)
    except (StateUnreadable, msgspec.DecodeError, ValueError, RecursionError) as error:
        return differs("content", f"unreadable ({error})", f"sha256 {state_digest(wanted)[:12]}…")
    wanted_bytes = canonical_bytes(wanted)
    if found_bytes == wanted_bytes:
        return None
    first = first_difference(found, msgspec.msgpack.decode(wanted_bytes))
    if first is not None:
        return differs(*first)
    # Equal values in other bytes.
    return differs("sha256", hashlib.sha256(found_bytes).hexdigest(), state_digest(wanted))


ABSENT = object()  #: stands for a value that one side lacks


def first_difference(found: Any, wanted: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return (path, found, wanted) of the first difference of two plain values, or None."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            below = f"{path}.{key}" if path else str(key)
            first = first_difference(found.get(key, ABSENT), wanted.get(key, ABSENT), below)
            if first is not None:
                return first
        if list(found) != list(wanted):  # a strategy may depend on the order of iteration
            return f"order of {path or 'keys'}", _as_text(list(found)), _as_text(list(wanted))
        return None
    if isinstance(found, list) and isinstance(wanted, list):
        for index in range(max(len(found), len(wanted))):
            first = first_difference(
                found[index] if index < len(found) else ABSENT,
                wanted[index] if index < len(wanted) else ABSENT,
                f"{path}[{index}]",
            )
            if first is not None:
                return first
        return None
    same = type(found) is type(wanted) and found == wanted
    return None if same else (path, _as_text(found), _as_text(wanted))


def _as_text(value: Any) -> str:
    if value is ABSENT:
        return "missing"
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
