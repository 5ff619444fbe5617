"""Small promises of the settings: session limits, content policy, log lines."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from django.http import HttpRequest, HttpResponse
from psycopg.conninfo import conninfo_to_dict

from ginkgo_site.content_security import ContentSecurityPolicyMiddleware, policy_for
from ginkgo_site.database import conninfo, django_database, share_connections
from portfolios.json_log import JsonLines


def test_every_session_has_limits_and_durable_commits_whatever_the_address_says() -> None:
    url = "postgresql://u:p@db.example:6432/g?options=-c%20synchronous_commit%3Doff&sslmode=require"
    database = django_database(url)
    assert (database["NAME"], database["USER"], database["PASSWORD"]) == ("g", "u", "p")
    assert (database["HOST"], database["PORT"]) == ("db.example", "6432")
    assert database["OPTIONS"]["sslmode"] == "require"
    options = database["OPTIONS"]["options"]
    assert options.rindex("synchronous_commit=on") > options.index("synchronous_commit=off")
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        assert f"-c {limit}=" in options


def test_a_socket_folder_is_an_address_too() -> None:
    database = django_database("postgresql://ginkgo@/ginkgo?host=/run/gk/socket")
    assert (database["HOST"], database["PORT"]) == ("/run/gk/socket", "")


def test_the_web_process_shares_connections_and_its_string_stays_libpq() -> None:
    database = django_database("postgresql://u@h/d")
    share_connections(database)
    assert database["CONN_MAX_AGE"] == 0
    assert database["OPTIONS"]["pool"]["max_size"] == 16
    assert "pool" not in conninfo_to_dict(conninfo())


def test_pages_may_load_nothing_from_elsewhere_and_run_nothing_inline() -> None:
    strict = policy_for("/portfolios/canary-1/")
    assert strict.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in strict
    for path in ("/admin/", "/api/docs/"):
        assert "style-src 'self' 'unsafe-inline'" in policy_for(path)
        assert "script-src 'self';" in policy_for(path)


def test_a_view_may_bring_a_policy_of_its_own() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"Content-Security-Policy": "default-src 'self'"})

    answer: Any = ContentSecurityPolicyMiddleware(view)(HttpRequest())
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'"


def test_a_log_line_is_one_json_object_with_its_fields_and_its_traceback() -> None:
    try:
        raise ValueError("bad seq")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, __file__, 1, "commit of %s", ("canary-1",), sys.exc_info(),
            extra={"epoch": 7},
        )  # fmt: skip
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["message"], line["epoch"]) == ("error", "commit of canary-1", 7)
    assert "ValueError: bad seq" in line["traceback"]
