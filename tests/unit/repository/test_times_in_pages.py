"""Times of pages are elements, for a script that shows the zone of the viewer: no attributes."""

from __future__ import annotations

import re

from ginkgo_site.env import CHECKOUT

#: A filter that returns an element, inside the quotes of an attribute.
IN_ATTRIBUTE = re.compile(r'="[^"<>]*\|(?:exact_moment|moment|clock)\b[^"<>]*"')


def test_no_attribute_in_a_template_contains_a_time_element() -> None:
    found = [
        f"{path.name}: {use[0]}"
        for path in (CHECKOUT / "templates" / "dashboard").rglob("*.html")
        for use in IN_ATTRIBUTE.finditer(path.read_text())
    ]
    assert found == []
