"""Is this process up, and can it do its work? Asked by supervisors, without signing in."""

from __future__ import annotations

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from ginkgo_site.deadline import statement_limit
from scheduling.gateway.health import HEALTH
from scheduling.presentation.problems import DATABASE_AWAY, as_response, problem


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200: the process serves requests. Touches no database."""
    return JsonResponse({"status": "ok"})


#: A readiness request waits no longer for a statement.
STATEMENT_LIMIT_S = 2.0

_is_migrated = False  #: once true for the code of this process, it stays true


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if the gateway of this process can keep leases and commit, and the database has
    every migration; else 503 with the reason.
    """
    found = HEALTH.problem() or _migration_problem()
    if found:
        return as_response(problem("unavailable", found), request)
    return JsonResponse({"status": "ready"})


def _migration_problem() -> str:
    """Return which migrations are missing, or an empty text. Two statements, until none is."""
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
    return f"{missing} migrations are missing: run manage.py migrate." if missing else ""
