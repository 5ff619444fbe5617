"""Settings of database sessions, the content policy, and log lines."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from psycopg.conninfo import conninfo_to_dict

from ginkgo_site.content_security import ContentSecurityPolicyMiddleware
from ginkgo_site.database import conninfo, django_database, share_connections
from portfolios.json_log import JsonLines


def test_every_database_session_has_limits_and_durable_commits_whatever_the_url_says() -> None:
    url = "postgresql://u:p@db.example:6432/g?options=-c%20synchronous_commit%3Doff&sslmode=require"
    database = django_database(url)
    assert (database["NAME"], database["USER"], database["PASSWORD"]) == ("g", "u", "p")
    assert (database["HOST"], database["PORT"]) == ("db.example", "6432")
    assert database["OPTIONS"]["sslmode"] == "require"
    options = database["OPTIONS"]["options"]
    assert options.rindex("synchronous_commit=on") > options.index("synchronous_commit=off")
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        assert f"-c {limit}=" in options


def test_database_address_may_name_a_socket_folder() -> None:
    database = django_database("postgresql://ginkgo@/ginkgo?host=/run/gk/socket")
    assert (database["HOST"], database["PORT"]) == ("/run/gk/socket", "")


def test_the_web_process_shares_connections_and_conninfo_lacks_the_pool() -> None:
    database = django_database("postgresql://u@h/d")
    share_connections(database)
    assert database["CONN_MAX_AGE"] == 0
    assert "pool" not in conninfo_to_dict(conninfo())


def policy(path: str, **headers: str) -> dict[str, str]:
    """Return the directives of the header that a view without a policy of its own gets."""
    request = HttpRequest()
    request.path = request.path_info = path
    answer: Any = ContentSecurityPolicyMiddleware(lambda _: HttpResponse(headers=headers))(request)
    directives = answer.headers["Content-Security-Policy"].split("; ")
    return dict(directive.split(" ", 1) for directive in directives)


def test_pages_may_load_nothing_from_other_hosts_and_run_nothing_inline() -> None:
    strict = policy("/portfolios/canary-1/")
    assert strict["default-src"] == strict["frame-ancestors"] == strict["base-uri"] == "'none'"
    assert strict["script-src"] == strict["style-src"] == "'self'"
    assert not any("unsafe" in value for value in strict.values())
    for path in ("/admin/", "/api/docs/"):
        assert policy(path)["style-src"] == "'self' 'unsafe-inline'"
        assert policy(path)["script-src"] == "'self'"


def test_view_may_set_its_own_content_security_policy() -> None:
    own = "default-src 'self'"
    assert policy("/", **{"Content-Security-Policy": own}) == {"default-src": "'self'"}


@pytest.mark.parametrize(
    ("logger", "is_traced"),
    # What anybody can cause by a request is a sentence and no trace.
    [("scheduling.gateway.app", True), ("django.security.DisallowedHost", False)],
)
def test_log_line_is_one_json_object_with_a_traceback_only_for_errors_of_ginkgo(
    logger: str, is_traced: bool
) -> None:
    try:
        raise ValueError("bad seq")
    except ValueError:
        record = logging.getLogger(logger).makeRecord(
            logger, logging.ERROR, __file__, 1, "commit of %s", ("canary-1",), sys.exc_info(),
            extra={"epoch": 7},
        )  # fmt: skip
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["message"], line["epoch"]) == ("error", "commit of canary-1", 7)
    assert ("ValueError: bad seq" in line.get("traceback", "")) is is_traced
