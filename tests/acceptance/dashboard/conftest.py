"""The window of a signed-in operator, shared by all tests of the dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, StorageState

from chaos.harness.installation import Installation
from tests.acceptance.conftest import SharedInstallations, product
from tests.support.board import wait_until_idle
from tests.support.browser import DashboardWindow, open_context, window_in


@pytest.fixture(scope="package")
def desk(browser: Browser, shared_installations: SharedInstallations) -> Iterator[DashboardWindow]:
    """The window of a signed-in operator: opening one takes longer than most tests."""
    installation = product(shared_installations)
    context = open_context(browser)
    with window_in(context, installation) as opened:
        opened.sign_in(installation.access["username"], installation.access["password"])
        yield opened
    context.close()


@pytest.fixture
def window(installation: Installation, desk: DashboardWindow) -> Iterator[DashboardWindow]:
    """The window, on a live board without an open dialog or menu."""
    desk.return_to_board()
    desk.wait_until_live()
    yield desk
    desk.assert_clean()


@pytest.fixture
def login(desk: DashboardWindow) -> StorageState:
    """The cookies of the signed-in operator, for a window with other options."""
    return desk.page.context.storage_state()


@pytest.fixture
def frozen(installation: Installation) -> Iterator[None]:
    """Freeze automatic moves: a card that changes its column takes its menu along."""
    installation.call("POST", "/api/schedule/freeze/", {"reason": "test"})
    wait_until_idle(installation)
    yield
    installation.call("POST", "/api/schedule/unfreeze/", {})


@pytest.fixture
def tab(window: DashboardWindow, installation: Installation) -> Iterator[DashboardWindow]:
    """A second tab of the operator's browser."""
    with window_in(window.page.context, installation) as opened:
        yield opened
