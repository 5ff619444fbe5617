"""The board of a hundred nodes in a browser: a handmade fleet, the server's own messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from playwright.sync_api import Browser, Page, WebSocketRoute

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.dashboard import context
from scheduling.dashboard.figures import encode_json, figures_part
from scheduling.dashboard.live_views import LiveView, Rendered, render_views
from scheduling.dashboard.views import moves
from scheduling.decide.types import Snapshot
from scheduling.observe.fleet_view.types import FleetView
from scheduling.observe.halts import HaltView
from tests.support import plan_factories
from tests.support.board_fixture import ago, fleet_view, node, portfolio
from tests.support.browser import open_browser, open_context

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

NODES = 100
VIEW = LiveView("board", "", True)
#: The portfolios of cards.
NAMES = "all => all.map(card => card.dataset.portfolio)"


def large_fleet(**of_node_70: Any) -> FleetView:
    """A hundred nodes in four zones, ten portfolios on each; node-70 as given."""
    nodes = [
        node(f"node-{n:02}", id=n + 1, capacity=16, labels={"zone": f"z{n % 4}"}, **given)
        for n in range(NODES)
        for given in [of_node_70 if n == 70 else {}]
    ]
    portfolios = [
        portfolio(f"p-{n:03}", f"node-{n % NODES:02}", id=n + 1, strategy=kind, symbols=[symbol])
        for n in range(10 * NODES)
        for kind, symbol in [("canary" if n == 705 else "sma_cross", "VOD" if n == 333 else "XOM")]
    ]
    return fleet_view(nodes, portfolios)


LOST = {"reason": "31 s without a heartbeat, limit 30 s", "last_heartbeat_at": ago(40)}
LOST |= {"status": "lost", "schedulable": False, "lease_left_s": 0.0, "status_since": ago(9)}


class Board:
    """An open board and the server's end of its socket."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.sockets: list[WebSocketRoute] = []
        self.shown: Rendered | None = None
        self.errors: list[str] = []
        page.set_default_timeout(SLOW_MACHINE_S * 1000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        # After five seconds without a message the page closes the socket, and what is sent to it
        # then is lost; a slow machine may take longer between two messages.
        page.add_init_script("performance.now = () => 0")
        page.route_web_socket("**/ws/board/**", lambda socket: self.sockets.append(socket))

    def show(self, fleet: FleetView) -> None:
        """Send what the server would send after it read this fleet."""
        rendered = render_views(fleet, [VIEW])[VIEW]
        assert rendered.figures is not None
        before = self.shown.figures if self.shown else None
        news = {"parts": rendered.parts, "figures": figures_part(rendered.figures, before)}
        message = {"type": "parts", "at": "14:05:12 UTC", "age_ms": 1, **news}
        self.shown = rendered
        self.sockets[-1].send(encode_json(message).decode())

    def columns(self) -> list[str]:
        return self.page.locator(".col:not([hidden])").evaluate_all("all => all.map(c => c.id)")

    def cards_of(self, number: str) -> int:
        return self.page.locator(f"#col-node-{number} .card").count()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, open_browser() as running:
        # Playwright's loop runs in this thread, and Django would refuse to work beside it.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield running


@pytest.fixture
def window(browser: Browser, live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """Return a window of an operator, in which no page is open yet."""
    monkeypatch.setattr(context, "read_fleet_view", large_fleet)
    user = User.objects.create_user("mira")
    user.groups.add(Group.objects.get_or_create(name="operator")[0])
    client = Client()
    client.force_login(user)
    session = client.cookies["sessionid"].value
    opened = open_context(browser, base_url=live_server.url)
    opened.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    shown = Board(opened.new_page())
    yield shown
    assert shown.errors == []
    opened.close()


@pytest.fixture
def board(window: Board) -> Board:
    window.page.goto("/")
    window.page.wait_for_selector(".card")
    return window


def test_only_columns_near_the_window_have_cards_and_a_strip_links_to_lost_nodes_elsewhere(board):
    page = board.page
    assert len(board.columns()) == NODES
    assert board.cards_of("00") == 10
    assert board.cards_of("70") == 0
    assert page.locator(".card").count() < 250
    page.locator("#col-node-70").scroll_into_view_if_needed()
    page.wait_for_selector("#col-node-70 .card")
    page.wait_for_selector("#col-node-00 .card", state="detached")
    assert board.cards_of("70") == 10
    assert page.locator("#trouble-strip").is_hidden()

    page.evaluate("window.scrollTo(0, 400)")
    board.show(large_fleet(**LOST))
    entry = page.locator("#trouble-strip li")
    entry.wait_for()
    assert " ".join(entry.inner_text().split()) == "node-70 31 s without a heartbeat, limit 30 s"
    assert page.locator("#trouble-strip").bounding_box()["y"] == 48  # below the top bar
    entry.locator("a").click()
    assert page.evaluate("document.activeElement.closest('.col').id") == "col-node-70"
    board.show(large_fleet())
    page.wait_for_selector("#trouble-strip", state="hidden")


def test_search_and_filters_are_in_the_address_and_survive_a_reload(board):
    page = board.page
    page.keyboard.press("/")
    page.keyboard.type("vod")
    page.wait_for_selector("#col-node-33 .card")
    assert board.columns() == ["col-node-33"]
    assert page.locator(".card").evaluate_all(NAMES) == ["p-333"]
    assert page.evaluate("location.search") == "?q=vod"
    page.reload()
    page.wait_for_selector(".card")
    assert board.columns() == ["col-node-33"]
    page.locator("#board-tools [data-clear]").click()
    assert len(board.columns()) == NODES
    page.click("[data-choose='trouble=1']")
    assert page.locator("#board-empty").is_visible()
    board.show(large_fleet(**LOST))
    page.wait_for_selector("#col-node-70 .card")
    assert board.columns() == ["col-node-70"]
    page.click("[data-choose='status=lost']")
    assert page.evaluate("location.search") == "?status=lost&trouble=1"


def test_node_groups_can_be_folded_and_show_their_counts(board):
    page = board.page
    page.select_option("#board-group", "zone")
    titles = page.locator(".group-title")
    assert titles.count() == 4
    assert titles.first.inner_text().split() == ["zone=z0", "nodes", "25", "portfolios", "250"]
    page.click(".group-button >> text=zone=z0")
    assert page.locator("#col-node-00").is_hidden()
    assert page.locator("#col-node-01").is_visible()
    assert page.evaluate("location.search") == "?group=zone&folded=z0"
    page.click(".group-button >> text=zone=z0")
    page.select_option("#board-group", "")
    assert page.locator(".node-group").count() == 0
    assert page.locator("#col-node-00 .card").first.is_visible()

    # Without the label, and with values that the address has to quote.
    fleet = large_fleet()
    for row, labels in ((0, {}), (1, {"zone": "a,b"}), (2, {"zone": "50%"})):
        fleet.nodes[row] = dataclasses.replace(fleet.nodes[row], labels=labels)
    board.show(fleet)
    page.select_option("#board-group", "zone")
    for title, column in (("without", "00"), ("zone=a,b", "01"), ("zone=50%", "02")):
        page.click(f".group-button >> text={title}")
        assert page.locator(f"#col-node-{column}").is_hidden(), title
    assert page.evaluate("location.search") == "?group=zone&folded=%3D%2Ca%252Cb%2C50%2525"
    page.click(".group-button >> text=without")
    assert page.locator("#col-node-00").is_visible()
    assert page.locator("#col-node-01").is_hidden()


def test_open_page_of_something_that_is_deleted_says_so(window):
    page = window.page
    page.goto("/handoffs/")
    missing = "<main>There is no such thing.</main>"
    page.route("**/handoffs/", lambda route: route.fulfill(status=404, body=missing))
    page.wait_for_selector("text=There is no such thing.")


def test_heatmap_has_a_named_cell_for_each_portfolio_and_is_filtered_as_the_board(board):
    page = board.page
    page.click("text=Heatmap")
    cells = page.locator("#heatmap [data-cells] .heat-cell")
    assert cells.count() == 10 * NODES
    assert page.locator("#board").is_hidden()
    fleet = large_fleet()
    stalled = dataclasses.replace(fleet.portfolios[705], stalled=True, stalled_s=42.0)
    fleet.portfolios[705] = stalled
    board.show(fleet)
    page.wait_for_selector(".heat-cell[data-cell=p-705][data-state=trouble]")
    name = page.get_attribute(".heat-cell[data-cell=p-705]", "aria-label")
    assert name.startswith("p-705, running: stalled 42 s")
    assert page.inner_text("[data-count=trouble]") == "1"
    assert page.locator("#heatmap .heat-cell[tabindex='0']").count() == 1
    page.focus("#heatmap .heat-cell[tabindex='0']")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.cell") == "p-100"

    stray = [portfolio(n, None, id=2_000 + i, phase="pending") for i, n in enumerate(("vod", "x"))]
    board.show(dataclasses.replace(fleet, portfolios=[*fleet.portfolios, *stray]))
    page.wait_for_selector(".heat-cell[data-cell=x]")
    page.fill("#board-search", "vod")
    assert cells.evaluate_all("all => all.map(cell => cell.dataset.cell)") == ["p-333", "vod"]
    assert page.inner_text("[data-count=waiting]") == "1"


def test_figures_of_cards_and_rows_change_in_place_and_a_moved_card_keeps_the_focus(board):
    page = board.page
    board.show(large_fleet())
    page.focus("#card-p-000")
    page.evaluate("document.getElementById('card-p-000').mine = true")
    fleet = large_fleet()
    fleet.portfolios[0] = dataclasses.replace(fleet.portfolios[0], node="node-01", lag_events=4211)
    board.show(fleet)
    page.wait_for_selector("#col-node-01 #card-p-000")
    assert "lag 4,211" in page.inner_text("#card-p-000")
    assert page.evaluate("document.activeElement.mine")
    fleet.portfolios[0] = dataclasses.replace(fleet.portfolios[0], node="node-90")
    board.show(fleet)
    page.wait_for_selector("#card-p-000", state="detached")

    page.click("text=Rows")
    assert page.locator("#col-node-00 .card").first.bounding_box()["height"] == 26
    fleet.portfolios[100] = dataclasses.replace(fleet.portfolios[100], stalled=True, stalled_s=42.0)
    board.show(fleet)
    page.wait_for_selector("#card-p-100.stalled")
    assert "stalled 42 s" in page.locator("#card-p-100").text_content()
    assert page.locator("#card-p-100 .card-message .i").is_visible()


#: Of "Sign out" in the top bar, from middle to middle in px, while the badge has its longest text.
DISTANCE_BELOW_THE_BRAND = """() => {
    document.querySelector("#live span").textContent = "Reconnecting · figures from 14:05:12 UTC";
    const middle = (selector) => {
        const box = document.querySelector(selector).getBoundingClientRect();
        return (box.top + box.bottom) / 2;
    };
    return middle(".top .signout") - middle(".top .brand");
}"""


def test_narrow_board_fits_its_window_and_opens_the_column_of_a_lost_node(board):
    page = board.page
    # A long word does not push the way back out of the window.
    halt = HaltView(4, ago(60), "olive", "https://example.org/" + "x" * 180, 9, 9, 9, None, "")
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        board.show(dataclasses.replace(large_fleet(), halts=[halt]))
        box = page.locator(".banner-halt a[href='/halts/4/undo/']").bounding_box()
        assert box["x"] + box["width"] <= width
    page.set_viewport_size({"width": 721, "height": 844})
    assert page.evaluate(DISTANCE_BELOW_THE_BRAND) < 3
    page.set_viewport_size({"width": 390, "height": 844})
    board.show(large_fleet(**LOST))
    page.wait_for_selector("#col-node-70.open")
    assert page.locator(".col.open").count() == 1
    assert page.locator("#col-node-00 .card-summary i").count() == 10
    assert page.evaluate("document.documentElement.scrollWidth") == 390


#: A tap, as a finger makes it.
TAP = """
card => card.dispatchEvent(new PointerEvent("click", { bubbles: true, pointerType: "touch" }))
"""


def planned_fleet() -> Snapshot:
    """The same fleet as the planner sees it; node-01 has room for two more."""
    nodes = [
        plan_factories.node(n, name=f"node-{n:02}", capacity=12 if n == 1 else 16)
        for n in range(NODES)
    ]
    portfolios = [plan_factories.portfolio(f"p-{n:03}", node=n % NODES) for n in range(10 * NODES)]
    return plan_factories.world(nodes, portfolios)


def test_several_cards_are_selected_by_key_mouse_and_finger_and_lifted_together(board, monkeypatch):
    page, keyboard = board.page, board.page.keyboard
    monkeypatch.setattr(moves, "observe", lambda timing: SimpleNamespace(snapshot=planned_fleet()))
    board.show(large_fleet())
    count = page.locator("#selection-bar [data-count]")
    assert count.is_hidden()
    page.focus("#card-p-000")
    keyboard.press("Space")
    keyboard.press("Shift+ArrowDown")
    keyboard.press("Shift+ArrowDown")
    assert count.inner_text() == "3 selected"
    page.evaluate("document.getElementById('too-many-template').dataset.most = 2")
    keyboard.press("m")
    page.wait_for_selector("dialog[open] form")
    assert page.inner_text("#action-title") == "Too many portfolios to move"
    refusal = page.inner_text("dialog[open] [role=alert]")
    assert refusal == "Choose 1 to 100 portfolios on the board; these are 3."
    keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="hidden")
    page.evaluate("document.getElementById('too-many-template').dataset.most = 7")

    page.locator("#card-p-000 .card-strategy").hover()
    page.mouse.down()
    page.locator("#col-node-01 > header h3").hover()
    page.locator("#col-node-01 .drop-note").wait_for()
    assert page.locator(".card.lifted").evaluate_all(NAMES) == ["p-000", "p-100", "p-200"]
    assert page.locator("#col-node-01 .drop-note p").all_inner_texts() == [
        "2 of 3 can go",
        "p-200: node-01 is full: load 12 of 12, the portfolio needs 1",
    ]
    assert "none of 3 can go" in page.inner_text("#col-node-00 .drop-note")
    assert page.get_attribute("#col-node-00", "data-can") == "no"
    assert page.inner_text("#selection-bar [data-answer]").startswith("all 3 can go: ")
    keyboard.press("Escape")
    page.mouse.up()
    assert page.locator(".lifted, .drop-note, [data-can]").count() == 0

    page.locator("#card-p-200 .card-strategy").click(modifiers=["Control"])
    assert count.inner_text() == "2 selected"
    page.locator("#card-p-400 .card-strategy").click(modifiers=["Shift"])
    page.locator("#card-p-500").hover()
    page.locator("#card-p-500 .menu-button").click()
    page.click("#cardmenu-p-500 >> text=Select")
    page.locator("#card-p-600 .card-strategy").evaluate(TAP)
    seven = [f"p-{n}00" for n in range(7)]
    assert page.locator(".card.selected").evaluate_all(NAMES) == seven
    assert page.locator("#card-p-600 .selected-mark").is_visible()

    page.focus("#card-p-600")
    keyboard.press("m")
    page.wait_for_selector("dialog[open] form")
    assert page.inner_text("#action-title") == "Migrate 7 portfolios"
    keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="hidden")
    assert page.evaluate("document.activeElement.id") == "card-p-600"

    # Without the server the dialog has the line of all of them; the form's own says where to.
    page.route("**/migrate/*", lambda route: route.abort())
    page.click("#selection-bar [data-move-selected]")
    line = page.locator("dialog[open] .shell-line code")
    assert line.inner_text().endswith(f"manage.py migrate_portfolio {' '.join(seven)}")
    page.unroute("**/migrate/*")
    page.click("dialog[open] [data-now]")
    page.check("dialog[open] [value=node-02]")
    page.route("**/migrate/*", lambda route: route.abort())
    page.click("dialog[open] [type=submit]")
    assert line.inner_text().endswith(f"{' '.join(seven)} --to node-02")
    assert "not sent again by itself" in page.inner_text("dialog [data-failed]")
    # What opened it is hidden when it closes.
    page.evaluate("document.getElementById('selection-bar').style.display = 'none'")
    keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="hidden")
    assert page.evaluate("document.activeElement.matches('.card')")
    page.evaluate("document.getElementById('selection-bar').removeAttribute('style')")
    page.focus("#card-p-600")
    # One that is gone is no longer selected; Escape selects none.
    fleet = large_fleet()
    del fleet.portfolios[0]
    board.show(fleet)
    page.wait_for_selector("#card-p-000", state="detached")
    assert count.inner_text() == "6 selected"
    keyboard.press("Escape")
    assert count.is_hidden()
    assert page.locator(".card.selected").count() == 0
