"""Views of open pages: which parts a page shows, rendered once for all pages with that view."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.conf import settings
from django.utils import translation

from scheduling.dashboard.board.page import BoardPage, build_board_page
from scheduling.dashboard.context import (
    Parts,
    board_parts,
    common_parts,
    render_parts,
    summary_context,
)
from scheduling.dashboard.figures import BoardFigures, board_figures
from scheduling.dashboard.portfolio_page import portfolio_context
from scheduling.observe.fleet_view.types import FleetView
from scheduling.observe.portfolio_log import read_log


class LiveView(NamedTuple):
    """The parts a page shows, for which role and in which language."""

    page: str  #: board, portfolio, or page for all others
    name: str  #: of the portfolio
    operator: bool
    language: str = settings.LANGUAGE_CODE


def parse_view(requested: str, operator: bool, language: str = "") -> LiveView:
    """Return the view that `board` or `portfolio:NAME` asks for; else that of the top bar alone.

    An unknown language becomes the default one: rendered views are cached per language, and a
    client must not fill the cache with languages of its own.
    """
    known_language = language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
    page, _, name = requested.partition(":")
    if page == "portfolio" and name:
        return LiveView("portfolio", name, operator, known_language)
    return LiveView("board" if page == "board" else "page", "", operator, known_language)


class Rendered(NamedTuple):
    """What a page shows of one snapshot."""

    parts: Parts  #: HTML by element id
    figures: BoardFigures | None = None  #: of the board


def render_views(fleet: FleetView, views: Iterable[LiveView]) -> dict[LiveView, Rendered]:
    """Render the views. Those of the board in one language share its figures."""
    boards: dict[str, tuple[BoardPage, BoardFigures]] = {}  # by language
    rendered = {}
    for view in views:
        with translation.override(view.language):
            if view.page != "board":
                rendered[view] = Rendered(_parts(fleet, view))
                continue
            if view.language not in boards:
                page = build_board_page(fleet, settings.GINKGO.good_after_s)
                boards[view.language] = page, board_figures(page)
            page, figures = boards[view.language]
            rendered[view] = Rendered(board_parts(page, view.operator), figures)
    return rendered


def _parts(fleet: FleetView, view: LiveView) -> Parts:
    """Render the parts of a page other than the board, in the active language."""
    context = {**summary_context(fleet), "may_act": view.operator}
    parts = common_parts(context)
    if view.page == "portfolio":
        portfolio = next((p for p in fleet.portfolios if p.name == view.name), None)
        if portfolio is not None:
            context |= portfolio_context(fleet, portfolio) | {"log": read_log(portfolio.id)}
            parts |= render_parts(
                ("head", "positions", "metrics", "log"), context, folder="portfolio"
            )
    return parts
