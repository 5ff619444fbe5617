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
    """Return the view of the text `board` or `portfolio:NAME`; of any other, only the top bar.

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
    """Render the views. Those of one page in one language share its figures."""
    pages: dict[str, tuple[BoardPage, BoardFigures]] = {}
    return {view: render_view(fleet, view, pages) for view in views}


def render_view(
    fleet: FleetView, view: LiveView, pages: dict[str, tuple[BoardPage, BoardFigures]] | None = None
) -> Rendered:
    """Render one view. `pages`: the boards of this snapshot by language; a missing one is added."""
    with translation.override(view.language):
        if view.page != "board":
            return Rendered(_parts(fleet, view))
        pages = {} if pages is None else pages
        if view.language not in pages:
            page = build_board_page(fleet, settings.GINKGO.good_after_s)
            pages[view.language] = page, board_figures(page)
        page, figures = pages[view.language]
        return Rendered(board_parts(page, view.operator), figures)


def _parts(fleet: FleetView, view: LiveView) -> Parts:
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
