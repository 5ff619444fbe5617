"""Names in a sentence of the audit log become links, as whole words and each once."""

from __future__ import annotations

from types import SimpleNamespace

from scheduling.templatetags.dashboard import with_links


def link(label: str) -> SimpleNamespace:
    return SimpleNamespace(view="node", argument=label, label=label)


def test_names_are_linked_and_not_parts_of_words_tags_or_entities() -> None:
    assert with_links("amp & placed on p, not on p-1", [link("p"), link("class"), link("amp")]) == (
        '<a class="link" href="/nodes/amp/">amp</a> &amp; placed on '
        '<a class="link" href="/nodes/p/">p</a>, not on p-1 '
        '<a class="link" href="/nodes/class/">class</a>'
    )


def test_names_within_chinese_are_linked() -> None:
    handoff = SimpleNamespace(view="handoff", argument=7, label="交接 7")
    assert with_links("请求交接 7从node-1迁移，而非交接 70", [link("node-1"), handoff]) == (
        '请求<a class="link" href="/handoffs/7/">交接 7</a>从'
        '<a class="link" href="/nodes/node-1/">node-1</a>迁移，而非交接 70'
    )


def test_markup_in_a_sentence_stays_text() -> None:
    assert with_links("<script>", []) == "&lt;script&gt;"
