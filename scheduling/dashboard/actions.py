"""What a person may do from the desk, and what each dialog says first: the consequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scheduling import operations
from scheduling.presentation.formatting import counted, span, whole

if TYPE_CHECKING:
    from scheduling.observe.fleet_view import FleetView, NodeView, PortfolioView

Lines = list[tuple[str, str]]  #: a short head and what it means


@dataclass(frozen=True, slots=True)
class Action:
    """One act on one thing. `call` is the one request of `scheduling.operations` behind it."""

    verb: str
    title: str
    button: str
    command: str
    lines: Callable[[Any, FleetView], Lines]
    call: Callable[..., Any]
    done: str
    asks_reason: bool = True
    danger: bool = False
    options: tuple[tuple[str, str], ...] = ()  #: name and words of a tick box


def _drain_lines(node: NodeView, board: FleetView) -> Lines:
    here = [p.name for p in board.portfolios if p.node == node.name]
    if here:
        now = (
            f"{counted(len(here), 'portfolio')} ({', '.join(here)}) "
            f"{'is' if len(here) == 1 else 'are'} handed off. Each goes on running here until its "
            "new node is ready."
        )
    else:
        now = "Nothing runs here, so nothing moves."
    lines = [
        ("Now", now),
        ("Then", "Nothing new is placed here until the drain is ended. Pins to this node go."),
    ]
    others = [n for n in board.nodes if n.name != node.name and n.schedulable]
    free = sum(max(n.capacity - n.load - n.held, 0) for n in others)
    weight = sum(p.weight for p in board.portfolios if p.node == node.name)
    if weight > free:
        lines.append(
            (
                "Room",
                f"The other nodes have {whole(free)} of {whole(weight)} places. What finds none "
                "stays here and goes on running.",
            )
        )
    return lines


def _undrain_lines(node: NodeView, board: FleetView) -> Lines:
    return [
        ("Now", "It takes portfolios again. Handoffs under way go on."),
        ("Stays", "What was handed off does not come back by itself, except to balance loads."),
    ]


def _cordon_lines(node: NodeView, board: FleetView) -> Lines:
    return [
        ("Now", "Nothing new is placed here, by the balancer or by a person."),
        ("Stays", "What runs here goes on running here."),
    ]


def _uncordon_lines(node: NodeView, board: FleetView) -> Lines:
    return [("Now", "It takes portfolios again; the next pass may move some here.")]


NODE_ACTS = {
    "drain": Action(
        "drain",
        "Drain {name}?",
        "Drain {name}",
        "manage.py drain_node {name}",
        _drain_lines,
        operations.drain,
        "{name} is draining.",
    ),
    "undrain": Action(
        "undrain",
        "End the drain of {name}?",
        "End the drain",
        "manage.py drain_node {name} --undo",
        _undrain_lines,
        operations.undrain,
        "The drain of {name} has ended.",
        asks_reason=False,
    ),
    "cordon": Action(
        "cordon",
        "Cordon {name}?",
        "Cordon {name}",
        "manage.py cordon_node {name}",
        _cordon_lines,
        operations.cordon,
        "{name} is cordoned.",
    ),
    "uncordon": Action(
        "uncordon",
        "Uncordon {name}?",
        "Uncordon {name}",
        "manage.py cordon_node {name} --undo",
        _uncordon_lines,
        operations.uncordon,
        "{name} is no longer cordoned.",
        asks_reason=False,
    ),
}


def _start_lines(p: PortfolioView, board: FleetView) -> Lines:
    behind = max(board.head - (p.last_seq or 0), 0)
    age = f", {span(behind / board.rate)} of the feed" if board.rate else ""
    late = {
        "full": "It decides on all of them.",
        "state_only": "It brings its state up to date; decisions on stale ones are suppressed.",
        "halt": "It stops again before the first stale one.",
    }
    lines = [
        ("Now", "It is placed by the balancer and goes on from its last commit."),
        (
            "From",
            f"seq {whole(p.last_seq)}: {counted(behind, 'event')} wait{age}. "
            f"{late.get(p.catch_up, '')}",
        ),
    ]
    if p.phase == "quarantined":
        lines.append(("Again", f"It counts attempts from 0. It was quarantined: {p.reason}"))
    return lines


def _stop_lines(p: PortfolioView, board: FleetView) -> Lines:
    if p.node:
        now = (
            f"{p.node} stops at its next batch boundary and commits. From then on nobody runs "
            f"{p.name}."
        )
    else:
        now = f"No node runs {p.name} at this moment, and none will."
    return [
        ("Now", now),
        ("Stays", "Cash, positions, open orders and state as of the last commit."),
        (
            "Back",
            "Only a person starts it again. It then goes on from its last commit, through the "
            f"events that came in between (catch-up {p.catch_up}).",
        ),
    ]


def _reload_lines(p: PortfolioView, board: FleetView) -> Lines:
    running = p.running_revision or p.revision
    if p.node is None:
        return [("Now", f"Revision {p.revision} is tried when it is placed.")]
    what = (
        f"{p.node} restarts revision {running} beside the old process"
        if running == p.revision
        else f"{p.node} starts revision {p.revision} beside revision {running}"
    )
    return [
        ("prepare", f"{what} and restores the checkpoint. If that fails, nothing has changed."),
        ("drain", "The old process stops at its next batch boundary; its last commit releases."),
        ("grant", f"The new process becomes the owner, epoch {p.epoch} → {p.epoch + 1}."),
        ("activate", "It commits from the next seq on, or the old one gets it back."),
    ]


def _unpin_lines(p: PortfolioView, board: FleetView) -> Lines:
    return [("Now", f"It stays on {p.pinned_node} until the balancer has a reason to move it.")]


def _verify_lines(p: PortfolioView, board: FleetView) -> Lines:
    done = max((p.last_seq or 0) - p.first_seq + 1, 0)
    return [
        (
            "Now",
            f"Of {counted(done, 'event')} of the log, those that are new since it was verified last"
            " are replayed in one process beside it.",
        ),
        ("Stays", f"{p.name} runs on and notices nothing."),
        ("Then", "Its page says identical, or the first difference."),
    ]


PORTFOLIO_ACTS = {
    "start": Action(
        "start",
        "Start {name}?",
        "Start {name}",
        "manage.py start_portfolio {name}",
        _start_lines,
        operations.start,
        "{name} starts as soon as a node takes it.",
    ),
    "stop": Action(
        "stop",
        "Stop {name}?",
        "Stop {name}",
        "manage.py stop_portfolio {name}",
        _stop_lines,
        operations.stop,
        "{name} is being stopped.",
        danger=True,
    ),
    "reload": Action(
        "reload",
        "Reload {name}?",
        "Reload {name}",
        "manage.py reload_portfolio {name}",
        _reload_lines,
        operations.reload,
        "{name} is being reloaded.",
    ),
    "verify": Action(
        "verify",
        "Verify {name}?",
        "Verify {name}",
        "manage.py verify_portfolio {name}",
        _verify_lines,
        operations.verify,
        "{name} is being verified.",
        asks_reason=False,
        options=(
            ("full", "from the first event, not only what is new since it was verified last"),
        ),
    ),
    "unpin": Action(
        "unpin",
        "Unpin {name}?",
        "Unpin {name}",
        "manage.py unpin_portfolio {name}",
        _unpin_lines,
        operations.unpin,
        "{name} is no longer pinned.",
        asks_reason=False,
    ),
}


def _freeze_lines(_: None, board: FleetView) -> Lines:
    return [
        ("Now", "No automatic move of anything: no balancing, no rebalancing, no drain goes on."),
        ("Goes on", "Failover, unless it is held too. What a person asks for is done."),
        ("Until", "a person unfreezes."),
    ]


def _unfreeze_lines(_: None, board: FleetView) -> Lines:
    return [("Now", "The next pass balances, drains and fails over as always.")]


FLEET_ACTS = {
    "freeze": Action(
        "freeze",
        "Freeze automatic moves?",
        "Freeze",
        "manage.py freeze",
        _freeze_lines,
        operations.freeze,
        "Automatic moves are frozen.",
        options=(("failover", "hold failover too: a lost node's portfolios wait"),),
    ),
    "unfreeze": Action(
        "unfreeze",
        "Unfreeze?",
        "Unfreeze",
        "manage.py freeze --undo",
        _unfreeze_lines,
        operations.unfreeze,
        "Automatic moves go on.",
        asks_reason=False,
    ),
}
