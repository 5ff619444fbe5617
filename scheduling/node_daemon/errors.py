"""What can go wrong on a node.

NodeFault
├── Ends                 the daemon must end; `code` is its exit code
│   ├── WrongArguments   2: the command line cannot be used
│   ├── NotWelcome       1: the server refuses this daemon (token, name in use, protocol)
│   └── Superseded       3: another daemon took the name; do not register again
├── ServerAway           no definite answer: try again
├── Declined             the server answered no to this one request
├── ChildFailed          a portfolio process failed; `stage` says how
│   └── Swept            it ended with the process they are all forked from
├── StaleEvent           catch_up is `halt` and the next event is too old
└── CommitRefused        what the fence answered
    ├── Fenced           a higher epoch exists: end the process quietly
    ├── OutOfStep        conflict or ahead: go back to the checkpoint
    ├── CommitRejected   this commit itself is bad
    └── HandedOver       released and granted elsewhere: keep it warm
"""

from __future__ import annotations

from typing import Literal

Stage = Literal["load", "event", "exit", "killed"]


class NodeError(Exception):
    """Base of all faults of a node; its text is a sentence for the person on call."""


class FatalError(NodeError):
    """The daemon must end."""

    code = 1


class InvalidArguments(FatalError):
    """The command line or the environment cannot be used."""

    code = 2


class RegistrationRefused(FatalError):
    """The server refuses this daemon: wrong token, name in use, old protocol."""


class Superseded(FatalError):
    """Another daemon registered under this name. Registering again would start a fight."""

    code = 3


class ServerUnavailable(NodeError):
    """No definite answer came: nothing is known, ask again."""


class RequestRefused(NodeError):
    """The server understood and said no; `code` is one of its stable codes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ChildFailed(NodeError):
    """A portfolio process failed, in the strategy (`load`, `event`) or as a process."""

    def __init__(self, stage: Stage, error: str, seq: int | None = None) -> None:
        super().__init__(error)
        self.stage: Stage = stage
        self.seq = seq

    @property
    def strategy_failed(self) -> bool:
        """Return whether the strategy itself raised, so that the revision is to blame."""
        return self.stage in ("load", "event")


class ForkserverDied(ChildFailed):
    """The process ended with its forkserver, which another portfolio may have ended.

    Only those that were at work can have done it; the others start again as if nothing was.
    """

    def __init__(self, was_busy: bool) -> None:
        super().__init__("exit", "it ended with the process that portfolios are forked from")
        self.was_busy = was_busy


class StaleEvent(NodeError):
    """The portfolio stops before an event that is too old; everything before it is committed."""

    def __init__(self, age_s: float) -> None:
        super().__init__(f"the next event is {age_s:.1f} s old")
        self.age_s = age_s


class CommitRefused(NodeError):
    """The fence did not take a commit."""


class Fenced(CommitRefused):
    """A higher epoch exists or the run is gone."""


class SequenceConflict(CommitRefused):
    """Same epoch and another seq, or an epoch the server does not know yet."""


class CommitRejected(CommitRefused):
    """This commit is bad in itself; repeating it would not help."""


class ReleaseGranted(CommitRefused):
    """The release was taken and the portfolio granted to its target."""
