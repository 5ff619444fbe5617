"""Tests, pages and files that the documentation names exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def promised_tests() -> dict[str, set[str]]:
    """Names of tests, by the page that names them. `…` stands for any letters."""
    return {
        str(page.relative_to(ROOT)): set(re.findall(r"\btest_[a-z0-9_]*(?:…[a-z0-9_]*)*", text))
        for page in PAGES
        if (text := re.sub(r"\btest_[a-z0-9_*]*\.py", "", page.read_text(encoding="utf-8")))
    }


def test_every_test_that_a_page_names_exists() -> None:
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    missing = {
        (page, name)
        for page, names in promised_tests().items()
        for name in names
        if not any(re.fullmatch(name.replace("…", r"\w*"), one) for one in known)
    }
    assert missing == set()
    assert sum(map(len, promised_tests().values())) > 0


def test_every_page_that_a_page_links_to_exists() -> None:
    missing = {
        (str(page.relative_to(ROOT)), link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    }
    assert missing == set()


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tops = "bin|chaos|deploy|docs|ginkgo_cli|ginkgo_site|portfolios|scheduling|templates|tests"
    named = re.findall(rf"`((?:{tops})/[\w./-]*)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert len(named) > 150
