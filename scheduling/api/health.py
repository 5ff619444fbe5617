"""Liveness and readiness of the web process, without authentication."""

from __future__ import annotations

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from ginkgo_site.deadline import statement_limit
from scheduling.decide.reasons import count
from scheduling.gateway.health import HEALTH
from scheduling.presentation.problems import DATABASE_AWAY, as_response, problem


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Return 200: the process serves requests. Uses no database."""
    return JsonResponse({"status": "ok"})


#: Longest wait of a readiness request for a statement.
STATEMENT_LIMIT_S = 2.0

#: Once true it stays so, since the code of the process, and with it its migrations, do not change.
_is_migrated = False


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Return 200 if leases can be renewed, commits made, and no migration is missing, else 503."""
    found = HEALTH.problem() or _missing_migrations()
    if found:
        return as_response(problem("unavailable", found), request)
    return JsonResponse({"status": "ready"})


def _missing_migrations() -> str:
    """Return a sentence if migrations are missing, else "". Once none is, ask no database."""
    global _is_migrated
    if _is_migrated:
        return ""
    try:
        with statement_limit(STATEMENT_LIMIT_S):
            executor = MigrationExecutor(connection)
            missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except (DatabaseError, *DATABASE_AWAY):
        return "The database does not answer."
    _is_migrated = missing == 0
    return f"{count(missing, 'migration')} missing: run manage.py migrate." if missing else ""
