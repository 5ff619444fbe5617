"""`manage.py run_node`: the node daemon, from a checkout that has the whole project installed."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from scheduling.node_daemon import cli


class Command(BaseCommand):
    """Run an execution node until it is told to stop. The daemon itself knows nothing of Django."""

    help = "Run an execution node."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what the daemon takes."""
        cli.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it and exit with its code."""
        sys.exit(cli.run(options))
