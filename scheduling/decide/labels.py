"""Labels of a node: what its daemon reports, with the edits of operators on top. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def label_edits(reported: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """Return how to edit `reported` into `wanted`: label → its new value, or None to remove it."""
    changed = {key: value for key, value in wanted.items() if reported.get(key) != value}
    return {**changed, **{key: None for key in reported if key not in wanted}}


def labels_text(labels: Mapping[str, str]) -> str:
    """Return the labels as an operator types them: `gpu=yes zone=a`, sorted."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
