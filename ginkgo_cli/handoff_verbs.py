"""Verbs that begin a handoff of a portfolio, and may wait for its end."""

from __future__ import annotations

import sys
import time
from typing import Any

from ginkgo_cli import views
from ginkgo_cli.client import Failed
from ginkgo_cli.context import POLL_S, Context
from ginkgo_cli.names import find, names_of, resolve
from ginkgo_cli.tables import plain

#: States of a handoff that has not ended.
UNDER_WAY = ("requested", "preparing", "draining", "activating")


def migrate(context: Context) -> None:
    """Move portfolios to another node; without --to, the balancer chooses."""
    target = resolve(context.client, "node", context.given.to) if context.given.to else None
    if context.given.more:
        _migrate_several(context, target)
    else:
        _hand_off(context, "migrate", target_node=target, reason=context.given.reason)


def _migrate_several(context: Context, target: str | None) -> None:
    """Move several portfolios with one request; fail at the end if one did not move or is late."""
    given = context.given
    existing = names_of(context.client, "portfolio")
    names = [find(existing, "portfolio", one) for one in (given.portfolio, *given.more)]
    document = context.client.post(
        "schedule/migrate-several/", portfolios=names, target_node=target, reason=given.reason
    )
    results = document["results"]
    handoffs = {row["portfolio"]: row["handoff"] for row in results}
    read_error = ""  # why the state of a handoff is unknown; its last known state is shown
    until = time.monotonic() + (given.wait or 0)
    for handoff in handoffs.values():
        if read_error and time.monotonic() >= until:
            break  # a server that does not answer would delay each further handoff
        try:
            if given.wait and handoff:
                _update_until_end(context, handoff, until)
        except Failed as failed:
            read_error = f" {failed}"
    context.show(document, lambda: views.move_outcomes(results))
    states = {name: handoff["state"] if handoff else "" for name, handoff in handoffs.items()}
    stayed = [name for name, state in states.items() if state not in (*UNDER_WAY, "done")]
    late = [name for name, state in states.items() if given.wait and state in UNDER_WAY]
    sentences = []
    if stayed:
        sentences.append(f"{len(stayed)} of {len(results)} did not move: {', '.join(stayed)}.")
    if late:
        sentences.append(
            f"Not done after {given.wait:g} s, and continuing: {', '.join(late)}.{read_error}"
        )
    if sentences:
        raise Failed(" ".join(sentences))


def reload(context: Context) -> None:
    """Reload a portfolio, by default with its wanted revision."""
    _hand_off(context, "reload", revision=context.given.revision, reason=context.given.reason)


def start(context: Context) -> None:
    """Start a portfolio that is stopped, halted or quarantined."""
    _hand_off(context, "start", reason=context.given.reason)


def stop(context: Context) -> None:
    """Stop a portfolio where it is."""
    _hand_off(context, "stop", reason=context.given.reason)


def _hand_off(context: Context, verb: str, **body: Any) -> None:
    """Send the verb, wait with --wait, and show the handoff. Raise Failed if the handoff failed."""
    name = context.name("portfolio")
    document = context.client.post(f"portfolios/{name}/{verb}/", **body)
    # A start that has to wait for a place is answered with the portfolio instead of a handoff.
    handoff = document if "kind" in document else None
    if context.given.wait and handoff:
        handoff = document = _wait_for_end(context, handoff)
    elif context.given.wait and verb == "start":
        document = _wait_until_running(context, name)
        context.show(document, f"{name} runs on {document['run']['node']}.")
        return
    pending = f"{name} is pending: the next pass places it if a node has room."
    context.show(document, views.handoff_sentence(handoff) if handoff else pending)
    if handoff and handoff["state"] not in (*UNDER_WAY, "done"):
        raise Failed(
            handoff["error"]
            or f"The {handoff['kind']} of {name} (handoff {handoff['id']}) ended as "
            f"{handoff['state']}."
        )


def _wait_for_end(context: Context, handoff: dict[str, Any]) -> dict[str, Any]:
    """Return a handoff once it has ended. Raise Failed after --wait seconds."""
    _update_until_end(context, handoff, time.monotonic() + context.given.wait)
    if handoff["state"] in UNDER_WAY:
        raise Failed(
            f"The {handoff['kind']} of {handoff['portfolio']} (handoff {handoff['id']}) is "
            f"still {handoff['state']} after {context.given.wait:g} s; it continues."
        )
    return handoff


def _update_until_end(context: Context, handoff: dict[str, Any], until: float) -> None:
    """Update the document `handoff` until it has ended, or until the monotonic time `until`."""
    shown = ""
    try:
        while handoff["state"] in UNDER_WAY:
            if sys.stderr.isatty() and handoff["state"] != shown:
                shown = handoff["state"]
                now = plain(f"{handoff['kind']} of {handoff['portfolio']}: {shown}")
                sys.stderr.write(f"\r\x1b[K{now}")
                sys.stderr.flush()
            handoff.update(context.poll(f"handoffs/{handoff['id']}/", until))
            if handoff["state"] not in UNDER_WAY or time.monotonic() >= until:
                return
            time.sleep(POLL_S)
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")


def _wait_until_running(context: Context, name: str) -> dict[str, Any]:
    """Return a portfolio once it runs. Raise Failed after --wait seconds."""
    until = time.monotonic() + context.given.wait
    while True:
        document: dict[str, Any] = context.poll(f"portfolios/{name}/", until)
        run = document["run"]
        if run["phase"] == "running":
            return document
        if time.monotonic() >= until:
            why = run["reason"] or f"it continues; see `ginkgo portfolio {name}`."
            raise Failed(f"{name} is still {run['phase']} after {context.given.wait:g} s: {why}")
        time.sleep(POLL_S)
