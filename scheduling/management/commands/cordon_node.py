"""manage.py cordon_node NODE [--undo] [--reason TEXT]"""

from __future__ import annotations

from scheduling.management.node_commands import NodeMarkCommand
from scheduling.operations import registry


class Command(NodeMarkCommand):
    help = registry.CORDON.help("a node")
    operation = registry.CORDON
    undo_operation = registry.UNCORDON
