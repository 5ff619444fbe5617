"""manage.py cluster_status: nodes, portfolios and handoffs of the fleet"""

from __future__ import annotations

from functools import partial
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scheduling.management.base import GinkgoCommand
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.presentation.sentences import held_sentence
from scheduling.presentation.serializers.fleet import BoardDocument

HANDOFFS_SHOWN = 10
_COLOURS = {"lost": "red", "suspect": "yellow", "draining": "yellow", "quarantined": "red"}
_COLOURS |= {"halted": "yellow", "pending": "yellow", "alive": "green", "running": "green"}


class Command(GinkgoCommand):
    help = "Show nodes, portfolios and handoffs, all from one consistent read."

    def act(self, options: dict[str, Any]) -> None:
        document = BoardDocument(read_fleet_view(), context={"operator": True}).data
        self.show(document, partial(draw_board, document))


def draw_board(board: dict[str, Any], console: Console) -> None:
    """Draw the fleet as tables."""
    frozen = board["frozen"]
    if frozen:
        reason = f": {frozen['reason']}" if frozen["reason"] else ""
        console.print(f"frozen since {frozen['at']} by {frozen['by']}{reason}", style="yellow")
    if board["storm"]:
        console.print(held_sentence(board["storm"]), style="red")
    for alert in board["alerts"]:
        about = alert["portfolio"] or alert["node"] or "fleet"
        kind = alert["kind"].replace("_", " ")
        console.print("alert ", style="red", end="")
        console.print(f"{kind}, {about}, since {alert['opened_at']}: {alert['reason']}")
    console.print(_nodes_table(board["nodes"]))
    console.print(_portfolios_table(board["portfolios"]))
    if board["handoffs_active"] or board["handoffs_recent"]:
        handoffs = [*board["handoffs_active"], *board["handoffs_recent"]]
        console.print(_handoffs_table(handoffs[:HANDOFFS_SHOWN]))
    p50, p99 = (_ms(board[f"pause_{name}_ms"]) for name in ("p50", "p99"))
    console.print(
        f"head {board['head']:,} at {board['rate']:g} events/s, pause p50 {p50}, p99 {p99}, "
        f"equity {board['total_equity'] or '–'} of {board['total_starting'] or '–'}"
    )


def _nodes_table(nodes: list[dict[str, Any]]) -> Table:
    table = _empty_table(
        "Nodes", "node", "status", "load", "lease", "python", "portfolios", "notes"
    )
    for node in nodes:
        flags = [name for name in ("cordoned", "draining", "leaving") if node[name]]
        lease = node["lease_left_s"]
        table.add_row(
            node["name"],
            _coloured(node["status"]),
            f"{node['load']:g}/{node['capacity']:g}",
            "–" if lease is None else f"{max(lease, 0):.1f} s",
            node["python"] or "–",
            ", ".join(node["portfolios"]) or "–",
            ", ".join(flags),
        )
    return table


def _portfolios_table(portfolios: list[dict[str, Any]]) -> Table:
    headings = ("portfolio", "strategy", "phase", "node", "epoch", "rev", "seq", "lag", "pnl")
    table = _empty_table("Portfolios", *headings, "why")
    for portfolio in portfolios:
        run, account = portfolio["run"], portfolio["account"]
        table.add_row(
            portfolio["name"],
            portfolio["strategy"],
            Text.assemble(_coloured(run["phase"]), (" stalled" if run["stalled"] else "", "red")),
            run["node"] or "–",
            str(run["epoch"]),
            str(run["revision"] if run["revision"] is not None else "–"),
            f"{run['last_seq']:,}",
            f"{run['lag_events']:,}",
            account["pnl"] if account["pnl"] is not None else "–",
            run["reason"],
        )
    return table


def _handoffs_table(handoffs: list[dict[str, Any]]) -> Table:
    table = _empty_table(
        "Handoffs", "id", "portfolio", "kind", "from", "to", "state", "pause", "why"
    )
    for handoff in handoffs:
        table.add_row(
            str(handoff["id"]),
            handoff["portfolio"],
            handoff["kind"],
            handoff["source_node"] or "–",
            handoff["target_node"] or "–",
            handoff["state"],
            _ms(handoff["pause_ms"]),
            handoff["error"] or handoff["reason"],
        )
    return table


def _empty_table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in headings:
        # Names and numbers are never wrapped; the last column is, on a narrow screen.
        table.add_column(heading, no_wrap=heading != headings[-1], overflow="fold")
    return table


def _coloured(word: str) -> Text:
    return Text(word, _COLOURS.get(word, ""))


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"
