"""Views of open pages: which parts a page shows, rendered once for all pages with that view."""

from __future__ import annotations

from typing import NamedTuple

from django.conf import settings
from django.utils import translation

from scheduling.dashboard.context import (
    board_parts,
    common_parts,
    render_parts,
    summary_context,
)
from scheduling.dashboard.portfolio_page import portfolio_context
from scheduling.observe.fleet_view import FleetView
from scheduling.observe.portfolio_log import read_log


class LiveView(NamedTuple):
    """The parts a page shows, for which role and in which language."""

    page: str  #: board, portfolio, or page for all others
    name: str  #: of the portfolio
    operator: bool
    language: str = settings.LANGUAGE_CODE


def parse_view(requested: str, operator: bool, language: str = "") -> LiveView:
    """Parse the requested view: `board`, `portfolio:NAME`, or only the top bar.

    An unknown language becomes the default one: rendered views are cached per language, so that a
    client must not be able to request arbitrary ones.
    """
    known_language = language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
    page, _, name = requested.partition(":")
    if page == "portfolio" and name:
        return LiveView("portfolio", name, operator, known_language)
    return LiveView("board" if page == "board" else "page", "", operator, known_language)


def render_view(fleet: FleetView, view: LiveView) -> tuple[dict[str, str], list[str] | None]:
    """Render the parts of the view by element id; also return the column order of the board."""
    with translation.override(view.language):
        return _render(fleet, view)


def _render(fleet: FleetView, view: LiveView) -> tuple[dict[str, str], list[str] | None]:
    if view.page == "board":
        return board_parts(fleet, view.operator)
    context = {**summary_context(fleet), "may_act": view.operator}
    parts = common_parts(context)
    if view.page == "portfolio":
        portfolio = next((p for p in fleet.portfolios if p.name == view.name), None)
        if portfolio is not None:
            context |= portfolio_context(fleet, portfolio) | {"log": read_log(portfolio.id)}
            parts |= render_parts(
                ("head", "positions", "metrics", "log"), context, folder="portfolio"
            )
    return parts, None
