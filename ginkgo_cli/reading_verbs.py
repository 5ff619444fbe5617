"""Verbs that read: each asks the API and shows the answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ginkgo_cli import views
from ginkgo_cli.client import Unanswered
from ginkgo_cli.context import Context
from ginkgo_cli.names import names_of
from ginkgo_cli.tables import plain, printable

WATCH_S = 2.0  #: between two requests of --watch and --follow
FOLLOWED_LINES = 2_000  #: the most lines of a log that the API gives at once


def status(context: Context) -> None:
    """Show nodes, portfolios and open alerts."""

    def read() -> dict[str, Any]:
        client = context.client
        return {
            "nodes": list(client.rows("nodes/")),
            "portfolios": list(client.rows("portfolios/")),
            "alerts": list(client.rows("alerts/", open="true")),
        }

    _show(context, read, views.status)


def nodes(context: Context) -> None:
    """List the nodes."""
    _show(context, lambda: list(context.client.rows("nodes/")), views.nodes)


def portfolios(context: Context) -> None:
    """List the portfolios."""
    _show(context, lambda: list(context.client.rows("portfolios/")), views.portfolios)


def node(context: Context) -> None:
    """Show one node."""
    path = f"nodes/{context.name('node')}/"
    _show(context, lambda: context.client.get(path), views.node)


def portfolio(context: Context) -> None:
    """Show one portfolio."""
    path = f"portfolios/{context.name('portfolio')}/"
    _show(context, lambda: context.client.get(path), views.portfolio)


def handoffs(context: Context) -> None:
    """List the newest handoffs."""
    rows = _filtered_rows(context, "handoffs/")
    context.show(rows, lambda: views.handoffs(rows))


def events(context: Context) -> None:
    """List the newest lines of the audit log."""
    rows = _filtered_rows(context, "events/")
    context.show(rows, lambda: views.events(rows))


def alerts(context: Context) -> None:
    """List the open alerts."""
    rows = list(context.client.rows("alerts/", open="true"))
    context.show(rows, lambda: views.alerts(rows))


def orders(context: Context) -> None:
    """List the newest orders of a portfolio."""
    path = f"portfolios/{context.name('portfolio')}/orders/"
    rows = list(context.client.rows(path, context.given.last))
    context.show(rows, lambda: views.orders(rows))


def log(context: Context) -> None:
    """Show what a portfolio printed."""
    name, follow = context.name("portfolio"), context.given.follow
    path = f"portfolios/{name}/log/"
    document = context.client.get(path)
    last = document["last"]
    if document["results"] or not follow:
        context.show(document, lambda: views.log(document["results"]) or f"{name} printed nothing.")
    while follow:
        # The `last` of an answer may be a line that did not fit into it: go on after those shown.
        rows = document["results"]
        last = rows[-1]["no"] if rows else last
        sys.stdout.flush()  # also into a pipe, which Python would fill first
        time.sleep(WATCH_S)
        document = _ask_again(partial(context.client.get, path, after=last, limit=FOLLOWED_LINES))
        if document["results"]:
            context.show(document, lambda: views.log(document["results"]))  # noqa: B023


def _filtered_rows(context: Context, path: str) -> list[dict[str, Any]]:
    """Return the --last newest rows that match --portfolio, --node and --kind."""
    filters = {name: getattr(context.given, name) for name in ("portfolio", "node", "kind")}
    return list(context.client.rows(path, context.given.last, **filters))


def _show(context: Context, read: Callable[[], Any], draw: Callable[[Any], str]) -> None:
    """Show a document once, or again and again with --watch."""
    document = read()
    if not context.given.watch:
        context.show(document, lambda: draw(document))
        return
    while True:
        # Move the cursor to the top and clear from there, which flickers less than clearing first.
        sys.stdout.write("\x1b[H\x1b[J" if sys.stdout.isatty() else "")
        context.show(document, lambda: draw(document))  # noqa: B023
        sys.stdout.flush()
        time.sleep(WATCH_S)
        document = _ask_again(read)


def _ask_again(read: Callable[[], Any]) -> Any:
    """Return what `read` returns. While the server has no answer, say so once and ask again."""
    was_said = False
    while True:
        try:
            return read()
        except Unanswered as failed:
            if not was_said:
                text = printable(f"{failed} It is asked again every {WATCH_S:g} s, until Ctrl-C.")
                sys.stderr.write(f"{text}\n")
            was_said = True
        time.sleep(WATCH_S)


def print_names(context: Context) -> None:
    """Print all names of portfolios or of nodes, for the completion of a shell."""
    if context.given.what in ("portfolio", "node"):
        print("\n".join(plain(name) for name in names_of(context.client, context.given.what)))
