"""`manage.py run_verifications`: work off the verifications that were asked for, then end."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.base import GinkgoCommand
from scheduling.node_daemon.parent_death import die_with_parent
from scheduling.verification.runner import NICE_LEVEL, run_waiting


class Command(GinkgoCommand):
    help = "Run the verifications that wait, one after the other, and end. The worker starts it."

    def arguments(self, parser: CommandParser) -> None:
        """Take the process to die with."""
        parser.add_argument("--parent", type=int, metavar="PID", help="die with this process")

    def act(self, options: dict[str, Any]) -> None:
        """Work off what waits."""
        if options["parent"]:
            die_with_parent(options["parent"])
        os.nice(NICE_LEVEL)
        done = run_waiting()
        self.show({"verified": done}, f"{done} verified")
