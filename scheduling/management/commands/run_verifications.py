"""`manage.py run_verifications`: run the requested verifications, then exit."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import CommandParser

from portfolios.runtime.parent_death import die_with_parent
from scheduling.management.base import GinkgoCommand
from scheduling.verification.runner import NICE_LEVEL, run_waiting


class Command(GinkgoCommand):
    help = "Run the waiting verifications one after the other, then exit. The worker starts it."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--parent", type=int, metavar="PID", help="exit with this process")

    def act(self, options: dict[str, Any]) -> None:
        if options["parent"]:
            die_with_parent(options["parent"])
        os.nice(NICE_LEVEL)
        done = run_waiting()
        self.show({"verified": done}, f"{done} verified")
