"""Errors of a node daemon.

NodeError
├── FatalError               the daemon must end; `code` is its exit code
│   ├── InvalidArguments     2: the command line or environment is invalid
│   ├── RegistrationRefused  4: the server refuses this daemon (token, name in use, protocol)
│   └── Superseded           3: another daemon took the name; do not register again
├── ServerUnavailable        the outcome is unknown: try again
├── RequestRefused           the server refused this one request
├── ChildFailed              a portfolio process failed; `stage` says how
│   ├── FeedLacksRecords     RecordsMissing, met while it loaded its next events
│   ├── ForkserverDied       the process ended because its forkserver ended
│   └── CodeUnavailable      its artifact or its environment is not available on this node
│       └── DiskFull         the disk has no room for it
├── StaleEvent               catch_up is `halt` and the next event is too old
├── LimitReached             a limit stops the portfolio
├── RecordsMissing           a recorded feed no longer has the records that were read
└── CommitRefused            the answer to a commit
    ├── Fenced               a higher epoch exists: end the process
    ├── SequenceConflict     it is `conflict` or `ahead`: return to the checkpoint
    ├── CommitRejected       the commit itself is invalid
    └── ReleaseGranted       released and granted elsewhere: keep the process warm
"""

from __future__ import annotations

from scheduling.wire.messages import Stage


class NodeError(Exception):
    """Base of all errors of a node; the text is a sentence for the person on call."""


class FatalError(NodeError):
    """The daemon must end."""

    code = 1


class InvalidArguments(FatalError):
    """The command line or the environment is invalid."""

    code = 2


class RegistrationRefused(FatalError):
    """The server refuses this daemon: invalid token, name in use, other protocol."""

    code = 4  # not 1, with which Python ends after an unexpected exception


class Superseded(FatalError):
    """Another daemon registered under this name. Registering again would make both alternate."""

    code = 3


class ServerUnavailable(NodeError):
    """No definite answer came: the outcome is unknown, try again."""


class RequestRefused(NodeError):
    """The server refused the request with this HTTP status and one of the API's stable codes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ChildFailed(NodeError):
    """A portfolio process failed, in the strategy (stage `load`, `event`) or as a process.

    `seq` is the event at which the strategy raised; None if there is none or it is not known.
    """

    def __init__(self, stage: Stage, error: str, seq: int | None = None) -> None:
        super().__init__(error)
        self.stage: Stage = stage
        self.seq = seq

    @property
    def strategy_failed(self) -> bool:
        """Return whether the strategy itself raised, so that the revision is the cause."""
        return self.stage in ("load", "event")

    def sentence(self, failed_in: tuple[int, int] | None) -> str:
        """Return what happened and at which events: (from, to] of `failed_in`, None if unknown."""
        if failed_in is None or self.seq is not None:  # the text of a strategy's error has the seq
            return str(self)
        before, last = failed_in
        first = before + 1
        where = f"at seq {last}" if first == last else f"between seq {first} and {last}"
        return f"{where}: {self}"


class FeedLacksRecords(ChildFailed):
    """The next records of its feed are gone: neither the strategy nor the process is the cause."""


class ForkserverDied(ChildFailed):
    """The process ended with its forkserver, which another portfolio may have killed.

    Only busy processes can be the cause; idle ones start again without an attempt counted.
    """

    def __init__(self, process_was_busy: bool) -> None:
        super().__init__("exit", "its process ended together with the forkserver")
        self.process_was_busy = process_was_busy


class CodeUnavailable(ChildFailed):
    """No process was started: its artifact or its environment is not available on this node.

    `code_is_invalid` says that no other node could use it either, so that the revision is at fault.
    """

    def __init__(self, error: str, *, code_is_invalid: bool = False) -> None:
        super().__init__("load" if code_is_invalid else "exit", error)


class DiskFull(CodeUnavailable):
    """The disk of this node, or its quota, has no room for the artifact or the environment."""


class RecordsMissing(NodeError):
    """A recorded feed does not have the records that a portfolio needs."""


class StaleEvent(NodeError):
    """The portfolio stops before an event that is too old; all earlier ones are committed."""

    def __init__(self, age_s: float) -> None:
        super().__init__(f"the next event is {age_s:.1f} s old")
        self.age_s = age_s


class LimitReached(NodeError):
    """A limit stops the portfolio; everything up to the event that reached it is committed."""


class CommitRefused(NodeError):
    """The answer to a commit is not `ok`."""


class Fenced(CommitRefused):
    """A higher epoch exists, or the run no longer exists."""


class SequenceConflict(CommitRefused):
    """The epoch matches but not the seq, or the server does not know the epoch yet."""


class CommitRejected(CommitRefused):
    """The commit itself is invalid; repeating it would not help."""


class ReleaseGranted(CommitRefused):
    """The release was accepted: this node no longer owns the portfolio."""
