"""Django's `migrate`, without the session limits that protect the fence from slow statements."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from ginkgo_site.database import without_session_limits


class Command(migrate.Command):
    """Apply migrations, however long each statement and the pauses between statements take."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Run Django's command in a session with PREPARATION_LIMITS."""
        with without_session_limits(connections[options["database"]]):
            super().handle(*args, **options)
