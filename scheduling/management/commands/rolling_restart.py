"""manage.py rolling_restart [--drain-wait SECONDS]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.arguments import seconds
from scheduling.management.base import GinkgoCommand
from scheduling.operations.rolling_restart import rolling_restart


class Command(GinkgoCommand):
    help = (
        "Restart the processes of this installation on this host, one after the other: web, "
        "watcher, worker, recorders, then each node once others run its portfolios. systemd or "
        "bin/up starts them again."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--drain-wait",
            type=seconds,
            default=60.0,
            metavar="SECONDS",
            help="give up if a node is not empty by then (%(default)s)",
        )

    def act(self, options: dict[str, Any]) -> None:
        """Restart, and say each step as it is done."""
        sentences = []
        for sentence in rolling_restart(drain_s=options["drain_wait"], actor=self.actor):
            sentences.append(sentence)
            if not self.as_json:
                self.show({}, sentence)
        if self.as_json or not sentences:
            self.show({"steps": sentences}, "Nothing of this installation runs on this host.")
