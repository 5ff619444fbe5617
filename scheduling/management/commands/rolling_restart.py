"""manage.py rolling_restart [--drain-wait SECONDS]"""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import CommandParser

from scheduling.errors import Refused
from scheduling.management.arguments import seconds
from scheduling.management.base import Failed, GinkgoCommand
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
        # bin/upgrade adds this to its options: they are parsed before it changes anything.
        parser.add_argument("--check-options", action="store_true", help=argparse.SUPPRESS)

    def act(self, options: dict[str, Any]) -> None:
        """Restart, and say each step as it is done."""
        if options["check_options"]:  # they were parsed, which is all that bin/upgrade wants
            return
        sentences: list[str] = []
        try:
            for sentence in rolling_restart(drain_s=options["drain_wait"], actor=self.actor):
                sentences.append(sentence)
                if not self.as_json:
                    self.show({}, sentence)
        except Refused as refused:
            # With --json too, say what was restarted before the failure.
            extra = refused.extra | {"steps": sentences}
            raise Failed(refused.code, refused.message, **extra) from refused
        if self.as_json or not sentences:
            self.show({"steps": sentences}, "Nothing of this installation runs on this host.")
