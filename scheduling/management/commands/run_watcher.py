"""`manage.py run_watcher`: the fast half of the scheduler, in the foreground."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings

from scheduling.management.base import GinkgoCommand
from scheduling.watcher import Watcher


class Command(GinkgoCommand):
    help = "Sweep and place as soon as something changes. Runs until it is asked to end."

    def act(self, options: dict[str, Any]) -> None:
        """Watch until SIGTERM or SIGINT."""
        watcher = Watcher(settings.GINKGO.balance_interval_s)
        signal.signal(signal.SIGTERM, watcher.end)
        signal.signal(signal.SIGINT, watcher.end)
        watcher.watch()
