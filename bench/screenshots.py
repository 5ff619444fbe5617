"""Pictures of every page of the desk, to be looked at: light, dark, Chinese, narrow.

It needs a running installation (`bin/up`), whose address and login it reads from access.json. What
the console complains of is printed, since a page may look right and be broken.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page

from ginkgo_site.env import CHECKOUT
from tests.support.browser import open_browser

#: How a page is looked at, and the settings of the browser for it.
WAYS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "zh": {"locale": "zh-CN"},
    "narrow": {"viewport": {"width": 390, "height": 844}},
}
#: Pages that no link of the navigation leads to.
MORE = (
    "/new-portfolio/",
    "/add-node/",
    "/alerts/",
    "/feeds/",
    "/halt/",
    "/incidents/",
    "/people/",
    "/roll-outs/",
    "/roll-outs/new/",
    "/api/docs/",
)
#: Kinds of pages: the first page of each, as the list of its kind links to it, is shown too.
KINDS = ("portfolios", "nodes", "handoffs", "incidents", "roll-outs", "strategies", "feeds")
#: Forms that each page of a kind opens.
FORMS = {
    "portfolios": ("clone", "edit", "migrate", "reload", "stop"),
    "nodes": ("drain", "labels", "new-token"),
}
WAIT_MS = 1200  #: until charts and the live socket have drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Take the pictures. Return 1 if a browser's console had an error or a warning, else 0."""
    parser = argparse.ArgumentParser(prog="bin/screenshots", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--way", choices=sorted(WAYS), action="append", help="default: all")
    parser.add_argument("--page", action="append", metavar="ADDRESS", help="default: all pages")
    given = parser.parse_args(argv)
    home = Path(os.environ.get("GINKGO_HOME") or CHECKOUT / ".ginkgo")
    file = home / "access.json"
    if not file.is_file():
        parser.error(f"{file} does not exist: start `bin/up` first, with the same GINKGO_HOME")
    access = json.loads(file.read_text(encoding="utf-8"))
    given.folder.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    with open_browser() as browser:
        for way in given.way or WAYS:
            page = _sign_in(browser, access, WAYS[way], complaints)
            for address in given.page or list(_addresses(page, access["url"])):
                name = address.strip("/").replace("/", "-") or "board"
                page.goto(access["url"] + address)
                page.wait_for_timeout(WAIT_MS)
                page.screenshot(path=given.folder / f"{name}.{way}.png", full_page=True)
                print(given.folder / f"{name}.{way}.png", flush=True)
            page.context.close()
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


def _sign_in(
    browser: Browser, access: dict[str, Any], settings: dict[str, Any], complaints: list[str]
) -> Page:
    """Return a window that is logged in and records what its console says."""
    page = browser.new_context(
        **{"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", **settings}
    ).new_page()

    def note(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            complaints.append(f"{page.url}: {said.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    page.goto(f"{access['url']}/login/")
    page.fill("[name=username]", access["username"])
    page.fill("[name=password]", access["password"])
    page.press("[name=password]", "Enter")
    page.wait_for_url(f"{access['url']}/")
    return page


def _addresses(page: Page, url: str) -> Iterator[str]:
    """Yield the addresses of the navigation, of MORE, and of the first page of each kind."""
    found = [*_links(page, "nav a", url), *MORE]
    yield from found
    for kind in KINDS:
        if f"/{kind}/" not in found:
            continue
        page.goto(f"{url}/{kind}/")
        of_kind = (a for a in _links(page, "main a", url) if a.startswith(f"/{kind}/"))
        # Three slashes: /KIND/NAME/, no form of it.
        first = next((a for a in of_kind if a.count("/") == 3 and a not in MORE), None)
        if first:
            yield first
            yield from (f"{first}{form}/" for form in FORMS.get(kind, ()))


def _links(page: Page, selector: str, url: str) -> list[str]:
    """Return the addresses that these links lead to, each once, without queries."""
    hrefs: list[str] = page.eval_on_selector_all(selector, "all => all.map(each => each.href)")
    return list(dict.fromkeys(urlsplit(href).path for href in hrefs if href.startswith(url)))


if __name__ == "__main__":
    raise SystemExit(main())
