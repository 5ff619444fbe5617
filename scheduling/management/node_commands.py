"""The shape of commands that set a mark on a node, and remove it with --undo."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry.operation import Operation
from scheduling.presentation.documents import node_document


class NodeMarkCommand(GinkgoCommand):
    """Perform `operation` on a node, or `undo_operation` with --undo."""

    operation: Operation
    undo_operation: Operation
    not_with_undo: tuple[str, ...] = ("reason",)  #: options that --undo refuses

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", metavar="NODE")
        parser.add_argument(
            "--undo", action="store_true", help=self.undo_operation.summary("the node")
        )
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Set or remove the mark and show the node."""
        name = options["node"]
        if options["undo"]:
            self.refuse_unused("--undo", options, *self.not_with_undo)
            self.undo_operation.call(name, actor=self.actor)
            self.show(node_document(name), self.undo_operation.outcome(name))
            return
        self.operation.call(name, actor=self.actor, reason=options["reason"], **self.extra(options))
        self.wait_for_effect(name, options)
        document = node_document(name)
        self.show(document, self.outcome(document))

    def wait_for_effect(self, name: str, options: dict[str, Any]) -> None:
        """Wait until the mark has its effect, if the options ask for it. By default do nothing."""

    def extra(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return further arguments of the operation."""
        return {}

    def outcome(self, document: dict[str, Any]) -> str:
        """Return the sentence that confirms the mark."""
        return self.operation.outcome(document["name"])
