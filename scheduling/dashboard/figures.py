"""The figures of the board as tables, and what changed in them since the last snapshot. Pure.

A table has a row for each portfolio or node, and is sent by column: an open page is sent each
column whole once, and then the values that changed. The structure of a card and a column is a
template of the page (`parts/card.html`, `parts/column.html`), which binds its elements to the
fields below. So one message serves every page in a language, whatever its role and whatever part of
the board it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling.presentation.formatting import places, signed_money, whole
from scheduling.presentation.state_words import state_word

if TYPE_CHECKING:
    from scheduling.dashboard.board.cards import Card
    from scheduling.dashboard.board.columns import Column
    from scheduling.dashboard.board.page import BoardPage

#: Levels of a sparkline, one character each: low to high.
SPARK_LEVELS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

CARD_FIELDS = (
    "node",  #: the node whose column shows the card; "" if no column does
    "target",  #: the node that reserves a slot for it, or ""
    "slot",  #: text of that slot
    "phase",
    "strategy",
    "symbols",
    "weight",
    "revision",
    "epoch",
    "moving",  #: id of its handoff, or null
    "pinned",  #: text that names the node it is pinned to, or ""
    "proving",
    "stalled",
    "state",  #: trouble, moving or ""
    "canary",  #: sentence of a canary, or "" for any other strategy
    "clean",  #: of a canary: neither a gap nor a duplicate; null if that is unknown
    "events",  #: how many a canary saw; null for any other strategy
    "pnl",
    "starting",
    "lag",
    "spark",
    "message",
    "icon",
    "tone",
)
NODE_FIELDS = (
    "status",
    "rank",  #: sort key of columns in trouble, or ""
    "first",  #: whether it is the first in trouble
    "cordoned",
    "draining",
    "until",  #: when its lease expires, epoch s
    "ttl",
    "capacity",
    "used",  #: weight of its cards
    "held",  #: weight of its reserved slots
    "load",  #: text for screen readers
    "cpu",
    "mem",
    "labels",
    "line",  #: what is unusual about it, or its node-loss forecast
    "icon",
    "tone",
    "loss",  #: whether the line is the node-loss forecast
    "drain",  #: progress of its drain, or ""
    "note",  #: HTML above its cards, or ""
)


@dataclass(frozen=True, slots=True)
class Table:
    """Named rows, stored by column: the n-th value of each column belongs to the n-th name."""

    names: Sequence[str]
    columns: dict[str, Sequence[Any]]


Change = dict[str, Any]  #: of one table or of all, as figures.js applies it


@dataclass(frozen=True, slots=True)
class BoardFigures:
    """Everything on the board that moves."""

    now: float  #: of the database's clock, epoch s, against which leases run down
    nodes: Table
    portfolios: Table


def board_figures(page: BoardPage) -> BoardFigures:
    """Return the figures of the board, in the active language."""
    return BoardFigures(page.fleet.at.timestamp(), node_table(page), portfolio_table(page))


def figures_part(figures: BoardFigures, before: BoardFigures | None = None) -> Change:
    """Return the change that makes a page with `before` (None: with nothing) show `figures`."""
    changes = {
        "nodes": table_changes(before.nodes if before else None, figures.nodes),
        "portfolios": table_changes(before.portfolios if before else None, figures.portfolios),
    }
    return {"now": figures.now, **{name: change for name, change in changes.items() if change}}


def table_changes(before: Table | None, after: Table) -> Change | None:
    """Return the changes to send to a page that shows `before`; None if there are none.

    If the rows have other names or another order, everything is sent: `{"names", "columns"}`.
    Otherwise `columns` has the columns that changed, each whole as a list, or as
    `{"at": indexes, "to": values}`, whichever is shorter.
    """
    if before is None or before.names != after.names:
        return {"names": after.names, "columns": after.columns}
    columns: dict[str, Any] = {}
    for field, values in after.columns.items():
        old = before.columns[field]
        if old == values:
            continue
        changed = [at for at, value in enumerate(values) if value != old[at]]
        if 2 * len(changed) > len(values):
            columns[field] = values
        else:
            columns[field] = {"at": changed, "to": [values[at] for at in changed]}
    return {"columns": columns} if columns else None


def _plain(text: SafeString) -> str:
    """Return rendered HTML as a `str`, which the encoder takes; `str()` would not convert it."""
    return text + ""


#: Encode a message as JSON; Decimals and rendered HTML become texts.
encode_json = msgspec.json.Encoder(enc_hook=_plain).encode


def portfolio_table(page: BoardPage) -> Table:
    """Return a row for each portfolio, by name."""
    if len(_sparks) > 2 * len(page.fleet.portfolios) + 100:
        _sparks.clear()  # most are of portfolios that were deleted
    by_name = {card.portfolio.name: card for column in page.columns for card in column.cards}
    by_name |= {card.portfolio.name: card for card in page.elsewhere}
    names = [portfolio.name for portfolio in page.fleet.portfolios]
    slots = {
        slot.portfolio: (column.node.name, slot.text)
        for column in page.columns
        for slot in column.reserved
    }
    return _table(names, CARD_FIELDS, (_card_row(by_name[name], slots) for name in names))


def node_table(page: BoardPage) -> Table:
    """Return a row for each column of the board."""
    names = [column.node.name for column in page.columns]
    return _table(names, NODE_FIELDS, (_node_row(column, page) for column in page.columns))


def _table(names: list[str], fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    without_rows: list[Sequence[Any]] = [()] * len(fields)
    columns = list(zip(*rows, strict=True)) or without_rows
    return Table(names, dict(zip(fields, columns, strict=True)))


def _card_row(card: Card, slots: dict[str, tuple[str, str]]) -> tuple[Any, ...]:
    """Return the values of CARD_FIELDS. `slots`: portfolio → (node, text) of its reserved slot."""
    portfolio = card.portfolio
    target, slot = slots.get(portfolio.name, ("", ""))
    message = card.message
    canary, clean, events = "", None, None
    if card.is_canary:
        canary, clean = canary_text(portfolio.state), card.canary_clean
        events = portfolio.state.get("events")
    return (
        card.node,
        target,
        slot,
        portfolio.phase,
        portfolio.strategy,
        portfolio.symbols,
        portfolio.weight,
        portfolio.running_revision or portfolio.revision,
        portfolio.epoch,
        portfolio.handoff.id if portfolio.handoff else None,
        _("pinned to %(node)s") % {"node": portfolio.pinned_node} if portfolio.pinned_node else "",
        "proving" in card.marks,
        portfolio.stalled,
        card.collapsed_class,
        canary,
        clean,
        events,
        card.pnl,
        portfolio.starting_cash,
        portfolio.lag_events,
        _cached_spark_text(portfolio.id, portfolio.spark),
        message.text if message else "",
        message.icon if message else "",
        message.tone if message else "",
    )


def plain_rows(page: BoardPage) -> SafeString:
    """Return the portfolios as rows of a table, for browsers without scripts."""
    cards = [*page.elsewhere, *(card for column in page.columns for card in column.cards)]
    return format_html_join("", _PLAIN_ROW, map(_plain_row, cards))


def plain_node_rows(page: BoardPage) -> SafeString:
    """Return the nodes as rows of a table, for browsers without scripts."""
    return format_html_join("", _PLAIN_NODE_ROW, map(_plain_node_row, page.columns))


# Rows for browsers without scripts. A template of Django would take a hundred times as long.
_PLAIN_ROW = (
    '<tr data-portfolio="{0}" data-phase="{2}"><td><a href="/portfolios/{0}/">{0}</a></td>'
    '<td>{1}</td><td>{2}</td><td>{3}</td><td class="num">{4}</td><td class="num">{5}</td>'
    "<td>{6}</td></tr>\n"
)
_PLAIN_NODE_ROW = (
    '<tr data-node="{0}" data-status="{1}"><td><a href="/nodes/{0}/">{0}</a></td><td>{1}</td>'
    '<td class="num">{2}</td><td>{3}</td></tr>\n'
)


def _plain_row(card: Card) -> tuple[str, ...]:
    """Return the values of _PLAIN_ROW."""
    portfolio = card.portfolio
    result = signed_money(card.pnl)
    if card.is_canary:
        result = f"{whole(portfolio.state.get('events'))} {_('events')}"
    return (
        portfolio.name,
        card.node or "–",
        state_word(portfolio.phase),
        portfolio.strategy,
        result,
        whole(portfolio.lag_events),
        card.message.text if card.message else "",
    )


def _plain_node_row(column: Column) -> tuple[str, ...]:
    """Return the values of _PLAIN_NODE_ROW."""
    line = column.status_line or column.forecast
    load = f"{places(column.load)}/{places(column.node.capacity)}"
    return column.node.name, state_word(column.status), load, line.text if line else ""


def canary_text(state: Mapping[str, Any]) -> str:
    """Return how many gaps and duplicates a canary saw, or that this is unknown."""
    gaps, duplicates = state.get("gaps"), state.get("duplicates")
    if gaps is None or duplicates is None:
        return _("gaps and duplicates unknown")
    return _(", ").join(
        (
            ngettext("%(number)s gap", "%(number)s gaps", gaps) % {"number": whole(gaps)},
            ngettext("%(number)s duplicate", "%(number)s duplicates", duplicates)
            % {"number": whole(duplicates)},
        )
    )


def _node_row(column: Column, page: BoardPage) -> tuple[Any, ...]:
    """Return the values of NODE_FIELDS."""
    node = column.node
    line = column.status_line or column.forecast
    here = len(column.cards)
    expires = node.lease_expires_at
    drain = ""
    if node.draining:
        text = _("%(number)s still here") if here else _("drained: no portfolio runs here")
        drain = text % {"number": here}
    note_template = "dashboard/parts/column_note.html"
    return (
        column.status,
        column.trouble_rank,
        node.name == page.first_in_trouble,
        node.cordoned,
        node.draining,
        round(expires.timestamp(), 1) if expires and column.status != "lost" else 0,
        node.lease_ttl_s,
        node.capacity,
        column.used,
        column.held,
        column.load_text,
        None if column.cpu is None else round(column.cpu),
        None if column.memory is None else round(column.memory),
        node.labels,
        line.text if line else "",
        line.icon if line else "",
        line.tone if line else "",
        column.status_line is None and column.forecast is not None,
        drain,
        render_to_string(note_template, {"column": column}) if column.note else "",
    )


#: Portfolio id → points and their text. The points are read anew every ten seconds.
_sparks: dict[int, tuple[Sequence[float], str]] = {}


def _cached_spark_text(portfolio: int, points: Sequence[float]) -> str:
    """Return `spark_text`, computed once for each read of the points."""
    known_points, text = _sparks.get(portfolio, (None, ""))
    if known_points is not points:
        text = spark_text(points)
        _sparks[portfolio] = points, text
    return text


def spark_text(points: Sequence[float]) -> str:
    """Return the curve as one of SPARK_LEVELS for each point; a flat one runs in the middle."""
    if len(points) < 2:
        return ""
    low, high = min(points), max(points)
    if high <= low:
        return SPARK_LEVELS[len(SPARK_LEVELS) // 2] * len(points)
    scale = (len(SPARK_LEVELS) - 1) / (high - low)
    return "".join([SPARK_LEVELS[round((value - low) * scale)] for value in points])
