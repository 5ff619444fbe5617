"""`manage.py run_node`: the node daemon, from a full installation of the project."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from scheduling.node_daemon import cli


class Command(BaseCommand):
    """Run an execution node until it is stopped. The daemon itself does not use Django."""

    help = "Run an execution node."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments of the daemon."""
        cli.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the daemon and exit with its code."""
        sys.exit(cli.run(options))
