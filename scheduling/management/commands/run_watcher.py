"""`manage.py run_watcher`: the fast half of the scheduler, in the foreground."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings

from ginkgo_site.deadline import limit_statements
from scheduling.management.base import GinkgoCommand
from scheduling.watcher import Watcher

#: A look at the largest fleet takes a second or two.
STATEMENT_LIMIT_S = 10.0


class Command(GinkgoCommand):
    help = "Sweep and place as soon as something changes. Runs until it is asked to end."

    def act(self, options: dict[str, Any]) -> None:
        """Watch until SIGTERM or SIGINT."""
        limit_statements(STATEMENT_LIMIT_S)
        watcher = Watcher(settings.GINKGO.balance_interval_s)
        signal.signal(signal.SIGTERM, watcher.end)
        signal.signal(signal.SIGINT, watcher.end)
        watcher.watch()
