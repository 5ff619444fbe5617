"""manage.py label_node NODE KEY=VALUE … KEY- … [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.decide.labels import labels_text
from scheduling.errors import Invalid
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import node_actions
from scheduling.presentation.documents import node_document, node_view


class Command(GinkgoCommand):
    help = (
        node_actions.LABEL_NODE.help("a node") + " KEY=VALUE sets a label and KEY- removes one; "
        "labels that are not named stay."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", metavar="NODE")
        parser.add_argument("changes", metavar="KEY=VALUE|KEY-", nargs="+")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        name = options["node"]
        labels = changed_labels(dict(node_view(name).labels), options["changes"])
        node_actions.LABEL_NODE.call(name, labels, actor=self.actor, reason=options["reason"])
        document = node_document(name)
        self.show(document, f"{name}: {labels_text(document['labels']) or 'no labels'}")


def changed_labels(labels: dict[str, str], changes: list[str]) -> dict[str, str]:
    """Change `labels` and return them: KEY=VALUE sets one, KEY- removes one.

    Raise Invalid for another text, and for a key that is given twice.
    """
    given = set()
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals and not change.endswith("-"):
            message = f"{change!r} is neither KEY=VALUE nor KEY-, such as zone=a or zone-."
            raise Invalid([{"field": "changes", "code": "invalid", "message": message}])
        name = key if equals else change.removesuffix("-")
        if name in given:
            message = f"{name} is given twice; give it once."
            raise Invalid([{"field": "changes", "code": "invalid", "message": message}])
        given.add(name)
        if equals:
            labels[key] = value
        else:
            labels.pop(name, None)
    return labels
