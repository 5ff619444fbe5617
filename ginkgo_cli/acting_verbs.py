"""Verbs that act on a node, on the whole fleet, or on a portfolio without a handoff."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ginkgo_cli import views
from ginkgo_cli.client import Failed
from ginkgo_cli.context import POLL_S, Context


def drain(context: Context) -> None:
    """Hand all portfolios of a node to others."""
    name, given = context.name("node"), context.given
    if given.plan:
        plan = context.client.get(f"nodes/{name}/drain-plan/")
        context.show(plan, lambda: views.drain_plan(plan))
        return
    path = f"nodes/{name}/"
    options = {"make_room": given.make_room, "until_return": given.until_return}
    document = context.client.post(f"{path}drain/", reason=given.reason, **options)
    until = time.monotonic() + (given.wait or 0)
    while given.wait and document["portfolios"]:
        if time.monotonic() >= until:
            names = document["portfolios"]
            raise Failed(
                f"{name} still runs {', '.join(names[:3])}{', …' if len(names) > 3 else ''} after "
                f"{given.wait:g} s; it is still draining. `ginkgo drain {name} --plan` says what "
                "has no place."
            )
        time.sleep(POLL_S)
        document = context.poll(path, until)
    left = len(document["portfolios"])
    sentence = f"is draining: {left} to hand off." if left else "is drained: it runs nothing."
    context.show(document, f"{name} {sentence}")


def node_verb(verb: str, sentence: str) -> Callable[[Context], None]:
    """Return a verb that acts on a node, and then shows `sentence` with its name as `{name}`."""

    def act(context: Context) -> None:
        name = context.name("node")
        reason = getattr(context.given, "reason", None)  # not every verb has --reason
        document = context.client.post(f"nodes/{name}/{verb}/", reason=reason)
        context.show(document, sentence.format(name=name))

    return act


def unpin(context: Context) -> None:
    """Let the balancer move a portfolio again."""
    name = context.name("portfolio")
    document = context.client.post(f"portfolios/{name}/unpin/")
    context.show(document, f"{name} is not pinned; the balancer may move it.")


def verify(context: Context) -> None:
    """Replay a portfolio's history and compare it with the records."""
    path = f"portfolios/{context.name('portfolio')}/verification/"
    document = context.client.post(path, full=context.given.full or None)
    until = time.monotonic() + (context.given.wait or 0)
    while document["state"] in ("waiting", "running") and time.monotonic() < until:
        time.sleep(POLL_S)
        document = context.poll(path, until)
    context.show(document, f"{document['portfolio']}: {document['sentence']}")
    if context.given.wait and document["state"] in ("waiting", "running"):
        raise Failed(
            f"The verification of {document['portfolio']} is not done after "
            f"{context.given.wait:g} s; it continues. The portfolio's page shows its result."
        )
    if document["state"] in ("different", "failed"):
        raise Failed(
            f"The verification of {document['portfolio']} ended as {document['state']}, not as"
            " identical; the cause is above."
        )


def rebalance(context: Context) -> None:
    """Run the balancer now; with --dry-run only say what it would do."""
    if context.given.dry_run:
        plan = context.client.get("schedule/plan/")
        context.show(plan, lambda: views.plan(plan))
        return
    document = context.client.post("schedule/rebalance/")
    count = len(document["requested"])
    moves = "Nothing to move." if not count else f"{count} handoff{'s' * (count > 1)} requested."
    context.show(document, moves)


def freeze(context: Context) -> None:
    """Stop all automatic moves; with --failover, failover too."""
    given = context.given
    document = context.client.post("schedule/freeze/", reason=given.reason, failover=given.failover)
    context.show(document, "Scheduling is frozen.")


def unfreeze(context: Context) -> None:
    """Let automatic moves go on."""
    context.show(context.client.post("schedule/unfreeze/"), "Scheduling goes on.")


def halt_all(context: Context) -> None:
    """Stop every portfolio now, and keep it stopped."""
    given = context.given
    running = sum(row["run"]["node"] is not None for row in context.client.rows("portfolios/"))
    if not given.yes:
        if not sys.stdin.isatty():
            raise Failed("Without a terminal, `ginkgo halt-all` needs --yes.")
        wanted = f"halt {running}"
        if _ask(f"This stops {running} running portfolios. Type `{wanted}`: ") != wanted:
            raise Failed(f"Nothing was halted: `{wanted}` was not typed.")
    # Refused by the server if another number of portfolios runs than the user was told.
    document = context.client.post("halt/", reason=given.reason, expect_running=running)
    context.show(
        document,
        f"Halt {document['halt']}: {document['running']} were running; no portfolio may trade. "
        "`ginkgo undo-halt` starts them again.",
    )


def _ask(question: str) -> str:
    """Return what the user types; "" if the input ends."""
    try:
        return input(question)
    except EOFError:
        print()
        return ""


def undo_halt(context: Context) -> None:
    """Start again what the newest halt stopped."""
    document = context.client.post("halt/undo/")
    context.show(document, f"Started: {', '.join(document['started']) or 'none'}.")
