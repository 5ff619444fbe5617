"""manage.py drain_node NODE [--undo] [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from scheduling.decide.reasons import count
from scheduling.management.node_commands import NodeMarkCommand
from scheduling.operations import registry


class Command(NodeMarkCommand):
    help = registry.DRAIN.help("a node")
    operation = registry.DRAIN
    undo_operation = registry.UNDRAIN

    def outcome(self, document: dict[str, Any]) -> str:
        """Return how many portfolios are to be handed off."""
        left = count(len(document["portfolios"]), "portfolio")
        return f"{document['name']} is draining: {left} to hand off."
