"""`manage.py run_watcher`: the event-driven half of the scheduler, in the foreground."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings

from ginkgo_site.database import prepare_statements
from ginkgo_site.deadline import limit_statements
from scheduling import tracing
from scheduling.management.base import GinkgoCommand
from scheduling.watcher import Watcher

#: Reading the largest fleet takes one to two seconds.
STATEMENT_LIMIT_S = 10.0


class Command(GinkgoCommand):
    help = "Run a pass or sweep as soon as something changes, until SIGTERM."

    def act(self, options: dict[str, Any]) -> None:
        """Run the watcher until SIGTERM or SIGINT."""
        limit_statements(STATEMENT_LIMIT_S)
        prepare_statements(settings.DATABASES["default"])
        tracing.start("ginkgo-watcher")
        watcher = Watcher(settings.GINKGO.balance_interval_s)
        signal.signal(signal.SIGTERM, watcher.end)
        signal.signal(signal.SIGINT, watcher.end)
        watcher.watch()
