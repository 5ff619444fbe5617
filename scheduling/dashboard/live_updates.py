"""What an open page is shown of each snapshot: its view, rendered once for all who look at it."""

from __future__ import annotations

from typing import NamedTuple

from django.conf import settings
from django.utils import translation

from scheduling.dashboard.context import (
    board_parts,
    common_parts,
    figures_context,
    render_parts,
)
from scheduling.dashboard.portfolio_page import portfolio_context
from scheduling.observe.fleet_view import FleetView


class View(NamedTuple):
    """Which parts a page shows, and whether with acts."""

    page: str  #: board, portfolio, or page for all others
    name: str  #: of the portfolio
    operator: bool
    language: str = settings.LANGUAGE_CODE


def view_of(asked: str, operator: bool, language: str = "") -> View:
    """Return the view that a page asks for: `board`, `portfolio:NAME`, or the bare top bar.

    A language that there is not is the usual one: views are kept, and anybody may ask for any.
    """
    spoken = language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
    page, _, name = asked.partition(":")
    if page == "portfolio" and name:
        return View("portfolio", name, operator, spoken)
    return View("board" if page == "board" else "page", "", operator, spoken)


def render_view(board: FleetView, view: View) -> tuple[dict[str, str], list[str] | None]:
    """Return the view's parts by element id, and the columns in order where it has any."""
    with translation.override(view.language):
        return _render(board, view)


def _render(board: FleetView, view: View) -> tuple[dict[str, str], list[str] | None]:
    if view.page == "board":
        return board_parts(board, view.operator)
    context = {**figures_context(board), "may_act": view.operator}
    parts = common_parts(context)
    if view.page == "portfolio":
        line = next((p for p in board.portfolios if p.name == view.name), None)
        if line is not None:
            context |= portfolio_context(board, line)
            parts |= render_parts(("head", "positions"), context, folder="portfolio")
    return parts, None
