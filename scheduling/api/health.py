"""Is this process up, and can it do its work? Asked by supervisors, without signing in."""

from __future__ import annotations

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from scheduling.api.problems import DATABASE_AWAY, as_response, problem


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200: the process serves requests. Touches no database."""
    return JsonResponse({"status": "ok"})


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if the database answers and has every migration, else 503 with the reason."""
    try:
        missing = _missing_migrations()
    except (DatabaseError, *DATABASE_AWAY):
        return as_response(problem("unavailable", "The database does not answer."), request)
    if missing:
        said = f"{missing} migrations are missing: run manage.py migrate."
        return as_response(problem("unavailable", said), request)
    return JsonResponse({"status": "ready"})


def _missing_migrations() -> int:
    """Return how many migrations were not applied. Two statements."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
