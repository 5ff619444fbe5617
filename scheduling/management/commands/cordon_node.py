"""manage.py cordon_node NODE [--undo] [--reason TEXT]"""

from __future__ import annotations

from scheduling.management.node_commands import NodeMarkCommand
from scheduling.operations.registry import node_actions


class Command(NodeMarkCommand):
    help = node_actions.CORDON.help("a node")
    operation = node_actions.CORDON
    undo_operation = node_actions.UNCORDON
