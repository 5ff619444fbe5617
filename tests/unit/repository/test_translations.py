"""Texts that pages translate have a Chinese translation."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils.translation.template import templatize

from ginkgo_site.env import CHECKOUT

CATALOG = CHECKOUT / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.mo"
#: What Django itself translates.
OF_DJANGO = {"Cancel", "Home", "No, take me back"}
#: A call of a translating function with one text, in Python or in what `templatize` makes.
CALLED = re.compile(
    r"\b(?:_|gettext(?:_lazy|_noop)?)\(\s*u?('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
)
FIGURE = re.compile(r"%\((\w+)\)s")


def texts_of_templates() -> Iterator[str]:
    for path in (CHECKOUT / "templates" / "dashboard").rglob("*.html"):
        for found in CALLED.finditer(templatize(path.read_text(), origin=str(path))):
            yield ast.literal_eval(found[1])


def texts_of_modules() -> Iterator[str]:
    for path in (CHECKOUT / "scheduling").rglob("*.py"):
        source = path.read_text()
        if "django.utils.translation import gettext" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(func=ast.Name(id="_" | "gettext"), args=[ast.Constant(value=text)]):
                    yield str(text)


@pytest.fixture(scope="module")
def chinese() -> gettext.GNUTranslations:
    with Path(CATALOG).open("rb") as file:
        return gettext.GNUTranslations(file)


def test_every_text_has_a_chinese_translation(chinese: gettext.GNUTranslations) -> None:
    texts = {*texts_of_templates(), *texts_of_modules()} - OF_DJANGO
    assert "Newest handoffs" in texts  # of a template
    assert "waits for its daemon to register" in texts
    assert sorted(text for text in texts if chinese.gettext(text) == text) == []


def test_translations_have_the_same_figures(chinese: gettext.GNUTranslations) -> None:
    for text in {*texts_of_templates(), *texts_of_modules()} - OF_DJANGO:
        translated = chinese.gettext(text)
        assert sorted(FIGURE.findall(text)) == sorted(FIGURE.findall(translated)), text
