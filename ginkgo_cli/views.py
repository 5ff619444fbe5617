"""How documents of the API look in a terminal."""

from __future__ import annotations

from typing import Any

from ginkgo_cli.tables import plain, table

Document = dict[str, Any]


def status(found: Document) -> str:
    """Return tables of the whole fleet: alerts first, since they need a person."""
    parts = [alerts(found["alerts"])] if found["alerts"] else []
    return "\n\n".join([*parts, nodes(found["nodes"]), portfolios(found["portfolios"])])


def nodes(rows: list[Document]) -> str:
    """Return a table of nodes."""
    if not rows:
        return "No node yet. Run `bin/node` on any machine; docs/deploy.md says how."
    return table(
        ("node", "status", "load>", "lease>", "portfolios"),
        (
            (
                row["name"], _node_state(row), f"{row['load']:g}/{row['capacity']}",
                _seconds(row["lease_left_s"]), ", ".join(row["portfolios"]),
            )
            for row in rows
        ),
    )  # fmt: skip


def node(row: Document) -> str:
    """Return one node, a line for each property."""
    labels = ", ".join(f"{key}={value}" for key, value in row["labels"].items())
    return _lines(
        ("node", row["name"]),
        ("status", f"{_node_state(row)}{_because(row['reason'])}"),
        ("load", f"{row['load']:g} of {row['capacity']}"),
        ("lease", _seconds(row["lease_left_s"])),
        ("labels", labels),
        ("daemon", f"{row['host']}, pid {row['pid']}, Python {row['python'] or '–'}"),
        ("portfolios", ", ".join(row["portfolios"])),
    )


def portfolios(rows: list[Document]) -> str:
    """Return a table of portfolios."""
    if not rows:
        return "No portfolio yet. Create one in the dashboard."
    return table(
        ("portfolio", "strategy", "phase", "node", "epoch>", "rev>", "seq>", "lag>", "pnl>", "why"),
        (
            (
                row["name"], row["strategy"], row["run"]["phase"], row["run"]["node"],
                row["run"]["epoch"], row["revision"], f"{row['run']['last_seq']:,}",
                f"{row['run']['lag_events']:,}", money(row["account"]), row["run"]["reason"],
            )
            for row in rows
        ),
    )  # fmt: skip


def portfolio(row: Document) -> str:
    """Return one portfolio, a line for each property."""
    run = row["run"]
    config = ", ".join(f"{key}={value}" for key, value in row["config"].items())
    return _lines(
        ("portfolio", row["name"]),
        ("phase", f"{run['phase']}{_because(run['reason'])}"),
        ("node", run["node"]),
        ("strategy", f"{row['strategy']} {config}".strip()),
        ("symbols", ", ".join(row["symbols"])),
        ("revision", f"{row['revision']} ({row['revision_status']})"),
        ("epoch", run["epoch"]),
        ("seq", f"{run['last_seq']:,}, {run['lag_events']:,} events behind"),
        ("pnl", money(row["account"])),
        ("orders", f"{run['orders_refused']:,} refused, {run['orders_suppressed']:,} suppressed"),
        ("pinned to", row["pinned_node"]),
        ("handoff", handoff_sentence(row["handoff"]) if row["handoff"] else ""),
    )


def handoffs(rows: list[Document]) -> str:
    """Return a table of handoffs."""
    return table(
        ("id>", "at (UTC)", "kind", "portfolio", "from", "to", "state", "pause>", "cause"),
        (
            (
                row["id"], _time(row["requested_at"]), row["kind"], row["portfolio"],
                row["source_node"], row["target_node"], row["state"],
                "–" if row["pause_ms"] is None else f"{row['pause_ms']:.0f} ms",
                row["error"] or row["reason"],
            )
            for row in rows
        ),
    )  # fmt: skip


def handoff_sentence(row: Document) -> str:
    """Return a handoff as one line."""
    route = " → ".join(node for node in (row["source_node"], row["target_node"]) if node)
    pause = "" if row.get("pause_ms") is None else f", pause {row['pause_ms']:.0f} ms"
    where = f" ({route})" if route else ""
    sentence = f"{row['kind']} of {row['portfolio']}{where}: {row['state']}{pause} [{row['id']}]"
    return plain(sentence)


def move_outcomes(rows: list[Document]) -> str:
    """Return what became of each portfolio of a group, a line for each."""

    def outcome(row: Document) -> str:
        handoff = row["handoff"]
        if not handoff:
            return plain(row["sentence"])
        cause = f": {plain(handoff['error'])}" if handoff["error"] else ""
        return f"{handoff_sentence(handoff)}{cause}"

    return "\n".join(outcome(row) for row in rows)


def events(rows: list[Document]) -> str:
    """Return a table of the audit log."""
    return table(
        ("at (UTC)", "kind", "portfolio", "node", "by", "reason"),
        (
            (
                _time(row["at"]), row["kind"], row["portfolio"], row["node"], row["actor"],
                row["reason"],
            )
            for row in rows
        ),
    )  # fmt: skip


def alerts(rows: list[Document]) -> str:
    """Return a table of open alerts."""
    if not rows:
        return "No alert is open."
    return table(
        ("alert", "since (UTC)", "about", "reason"),
        (
            (
                row["kind"], _time(row["opened_at"]), row["portfolio"] or row["node"] or "fleet",
                row["reason"],
            )
            for row in rows
        ),
    )  # fmt: skip


def orders(rows: list[Document]) -> str:
    """Return a table of orders."""
    if not rows:
        return "No order was found."
    return table(
        ("seq>", "symbol", "side", "quantity>", "price>", "status", "reason"),
        (
            (
                f"{row['seq']:,}", row["symbol"], row["side"], row["quantity"], row["price"],
                row["status"], row["reason"],
            )
            for row in rows
        ),
    )  # fmt: skip


def log(rows: list[Document]) -> str:
    """Return lines that a portfolio printed."""
    return "\n".join(
        f"{_time(row['at'])} {row['node']} r{row['revision']} "
        + (f"({row['lost']:,} lines were lost here)" if row["lost"] else plain(row["text"]))
        for row in rows
    )


def drain_plan(plan: Document) -> str:
    """Return what a drain would do."""
    lines = [plan["sentence"]]
    for move in plan["leave"]:
        pin = "; its pin ends" if move["unpinned"] else ""
        lines.append(f"  {move['portfolio']} → {move['target_node']}: {move['reason']}{pin}")
    lines += [f"  {entry['portfolio']} stays: {entry['reason']}" for entry in plan["stay"]]
    if plan["room"] is not None:
        lines.append(f"{plan['room']['sentence']} (--make-room)")
    lines += [remedy["reason"] for remedy in plan["help"]]
    return "\n".join(map(plain, [*lines, plan["losses_sentence"]]))


def plan(document: Document) -> str:
    """Return what a pass or a rebalance would do."""
    lines = [document["verdict"]["sentence"]]
    for step in (*document["place"], *document["move"]):
        lines.append(f"  {step['portfolio']} → {step['target_node']}: {step['reason']}")
    return "\n".join(map(plain, lines))


def money(account: Document | None) -> str:
    """Return the profit of an account with its sign, or – if it is not known."""
    if not account or account.get("pnl") is None:
        return "–"
    return f"{float(account['pnl']):+,.2f}".replace("-", "−")


def _node_state(row: Document) -> str:
    marks = [mark for mark in ("cordoned", "draining", "leaving") if row[mark]]
    return ", ".join([row["status"], *marks])


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _time(text: str | None) -> str:
    """Return an ISO time, which is in UTC already, up to its second; "–" for None."""
    return "–" if not text else text[:19].replace("T", " ")


def _lines(*pairs: tuple[str, object]) -> str:
    """Return a line for each (name, value) whose value is known, the values below each other."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(
        f"{name.ljust(width)}  {plain(value)}" for name, value in pairs if value not in (None, "")
    )
