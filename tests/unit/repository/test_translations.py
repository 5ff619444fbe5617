"""Texts that pages translate have a Chinese translation."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from string import Formatter

from django.utils.translation.template import templatize

from ginkgo_site.env import CHECKOUT

CATALOGS = CHECKOUT / "locale" / "zh_Hans" / "LC_MESSAGES"
#: What Django itself translates.
OF_DJANGO = {"Cancel", "Home", "No, take me back"}
#: A call of a translating function with one text, in Python or in what `templatize` makes.
CALLED = re.compile(
    r"\b(?:_|gettext(?:_lazy|_noop)?)\(\s*u?('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
)
FIGURE = re.compile(r"%\((\w+)\)[sg]")
TRANSLATES = ("django.utils.translation import gettext", "portfolios.sentences import")


def texts_of_templates() -> Iterator[str]:
    for path in (CHECKOUT / "templates").rglob("*.html"):
        for found in CALLED.finditer(templatize(path.read_text(), origin=str(path))):
            yield ast.literal_eval(found[1])


def modules() -> Iterator[Path]:
    for folder in ("scheduling", "portfolios", "ginkgo_site/web"):
        yield from (CHECKOUT / folder).rglob("*.py")


def texts_of_modules() -> Iterator[str]:
    for path in modules():
        source = path.read_text()
        if not any(imported in source for imported in TRANSLATES):
            continue
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(
                    func=ast.Name(id="_" | "gettext" | "gettext_noop"),
                    args=[ast.Constant(value=str(text))],
                ):
                    yield text


@cache
def texts() -> set[str]:
    """Return the texts of templates and modules that Ginkgo translates."""
    return {*texts_of_templates(), *texts_of_modules()} - OF_DJANGO


def catalog(name: str) -> Callable[[str], str]:
    """Return the function that translates a text by the catalogue of this name."""
    with (CATALOGS / f"{name}.mo").open("rb") as file:
        return gettext.GNUTranslations(file).gettext


chinese, chinese_of_scripts = catalog("django"), catalog("djangojs")


def test_every_text_has_a_chinese_translation() -> None:
    assert "Newest handoffs" in texts()  # of a template
    assert "waits for its daemon to register" in texts()
    assert "{name} is to be stopped; start it first." in texts()
    assert sorted(text for text in texts() if chinese(text) == text) == []


def test_translation_keeps_numbers_and_placeholders() -> None:
    for text in texts():
        translated = chinese(text)
        assert sorted(FIGURE.findall(text)) == sorted(FIGURE.findall(translated)), text
        assert set(values_in(text)) == set(values_in(translated)), text


#: What was written beside the word that pages have for it: alert, automatic moves, hold failover,
#: release the hold, unfreeze, end the drain, roll back, reload, stale events, lost node.
SECOND_WORDS = re.compile(
    r"告警|自动移动|暂缓|有人解除|解冻|撤销[^，；]{0,40}的排空|回滚|重载|过期事件|节点丢失"
)


def test_chinese_has_one_word_for_each_thing() -> None:
    texts = [path.read_text() for path in modules()]
    texts += [path.read_text() for path in CATALOGS.glob("*.po")]
    assert [found[0] for text in texts for found in SECOND_WORDS.finditer(text)] == []


def values_in(template: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, format and conversion of each value of `{name} is {value!r}`."""
    for _, name, spec, conversion in Formatter().parse(template):
        if name is not None:
            yield name, spec or "", conversion or ""


OPERATIONS = ("scheduling/operations/", "scheduling/enact/")
#: What only commands and the API reach, which are English.
NOT_ON_PAGES = {
    f"scheduling/operations/{name}.py"
    for name in (
        *("deploy_check", "rolling_restart", "feeds", "feed_imports", "feed_recorders"),
        *("idempotency", "python_versions"),
    )
} | {f"scheduling/enact/{name}.py" for name in ("idempotency", "node_reports", "register")}


def refusals_in_english(source: str) -> Iterator[int]:
    """Yield the lines of refusals whose text is not a sentence that a page can translate."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="Refused" | "WheelRefused"), args=[_, text, *_]):
                pass
            case ast.Call(func=ast.Name(id="error" | "FieldError"), args=[_, _, text]):
                pass
            case ast.Call(func=ast.Attribute(attr="error"), args=[_, _, text]):
                pass
            case ast.Dict(keys=[ast.Constant(value="field"), _, _], values=[_, _, text]):
                pass
            case _:
                continue
        found = [each for each in ast.walk(text) if isinstance(each, ast.JoinedStr)]
        if found or (isinstance(text, ast.Constant) and " " in str(text.value)):
            yield node.lineno


def test_refusals_of_operations_are_sentences_that_pages_translate() -> None:
    found = {}
    for path in modules():
        name = str(path.relative_to(CHECKOUT))
        if name.startswith(("portfolios/", *OPERATIONS)) and name not in NOT_ON_PAGES:
            found[name] = list(refusals_in_english(path.read_text()))
    assert {name: lines for name, lines in found.items() if lines} == {}
    idempotency = CHECKOUT / "scheduling" / "operations" / "idempotency.py"
    assert list(refusals_in_english(idempotency.read_text()))


#: Text between the tags of a template, and attributes that people read.
TEMPLATE_TAGS = re.compile(r"{%.*?%}|{{.*?}}|{#.*?#}", re.DOTALL)
TRANSLATED = re.compile(
    r"{% blocktranslate.*?endblocktranslate %}|{% comment %}.*?{% endcomment %}", re.DOTALL
)
NOT_PROSE = re.compile(r"<(code|script|style|pre|kbd|svg)\b.*?</\1>|<!DOCTYPE html>", re.DOTALL)
READ_ATTRIBUTE = re.compile(r'\b(?:aria-label|title|placeholder|alt)="([^"{]*[A-Za-z]{2}[^"{]*)"')
WORD = re.compile(r"[A-Za-z][A-Za-z']+")
#: The same in every language.
NAMES = {
    *("Ginkgo", "Webhook", "English", "Python", "UTC", "CSV", "JSON", "NODE"),
    *("cpu", "ioc", "pid", "seq", "sha", "nbsp", "amp"),
}
EXAMPLES = {"node-2, node-5", "node-4", "8:gpu=yes", "2026-01-31T14:30", "2026-01-31"}
#: The report of `manage.py backtest`, a file of its own.
ENGLISH = {"backtest/page.html"}


def words_without_translation(source: str) -> Iterator[str]:
    """Yield the words of a template that every reader sees in English."""
    source = source.replace("__name__", "")
    source = NOT_PROSE.sub("", TEMPLATE_TAGS.sub("", TRANSLATED.sub("", source)))
    shown = [text for text in READ_ATTRIBUTE.findall(source) if text not in EXAMPLES]
    for text in (re.sub(r"<[^>]*>", " ", source), *shown):
        yield from (word for word in WORD.findall(text) if word not in NAMES)


def test_templates_have_no_text_outside_of_a_translation() -> None:
    templates = CHECKOUT / "templates"
    found = {
        str(path.relative_to(templates)): words
        for path in templates.rglob("*.html")
        if (words := list(words_without_translation(path.read_text())))
    }
    assert {path: words for path, words in found.items() if path not in ENGLISH} == {}


CALLED_IN_SCRIPT = re.compile(r'\bgettext\(\s*"((?:[^"\\]|\\.)*)"')


def test_texts_of_scripts_have_a_chinese_translation() -> None:
    scripts = (CHECKOUT / "ginkgo_site" / "static" / "dashboard").glob("*.js")
    texts = {text for path in scripts for text in CALLED_IN_SCRIPT.findall(path.read_text())}
    assert "Stale since %(at)s" in texts
    assert sorted(t for t in texts if chinese_of_scripts(t) == t) == []
    for text in texts:
        translated = chinese_of_scripts(text)
        assert sorted(FIGURE.findall(text)) == sorted(FIGURE.findall(translated)), text
