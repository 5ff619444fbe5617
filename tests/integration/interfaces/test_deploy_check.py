"""manage.py deploy_check: facts of a real database, findings, exit code."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from ginkgo_site.encryption_keys import new_key
from portfolios.models import FeedWriter
from scheduling.models import Gateway, Node, NodeToken, PassLock
from scheduling.operations.feeds import create_feed
from scheduling.operations.secrets import set_secret

pytestmark = pytest.mark.django_db


def checked(*arguments: str) -> tuple[int, dict[str, Any]]:
    out, code = io.StringIO(), 0
    try:
        call_command("deploy_check", *arguments, json=True, stdout=out)
    except SystemExit as ended:
        code = int(str(ended.code))
    return code, json.loads(out.getvalue())


def topics(document: dict[str, Any]) -> set[str]:
    return {finding["topic"] for finding in document["findings"]}


def test_deploy_check_reports_findings_of_a_stopped_and_of_a_running_installation() -> None:
    code, document = checked("--url", "http://127.0.0.1:9")
    assert code == 1
    assert document["errors"] == sum(f["severity"] == "error" for f in document["findings"])
    assert {"ginkgo.E011", "web", "passes", "nodes", "url", "people"} <= topics(document)
    assert "security.W008" not in topics(document)  # one cause, one finding

    now = timezone.now()
    node = Node.objects.create(name="n1", status="alive")
    NodeToken.objects.create(
        node=node, sha256="a" * 64, expires_at=now + timedelta(days=2), last_used_at=now
    )
    NodeToken.objects.create(node=node, sha256="b" * 64)
    for number in (1, 2):
        Gateway.objects.create(
            id=UUID(int=number), host="vm", pid=number, serving_since=now, pulsed_at=now
        )
    for name in ("pass", "watcher"):
        PassLock.objects.update_or_create(
            name=name, defaults={"holder": "w", "until": now, "failover_ran_at": now}
        )
    get_user_model().objects.create_superuser("ann", password="x")
    _, document = checked()
    gone = {"web", "passes", "watcher", "nodes", "people", "migrations", "nats"}
    assert not gone & topics(document)
    (token,) = [finding for finding in document["findings"] if finding["topic"] == "tokens"]
    assert "The token of n1 expires in" in token["found"]


def test_text_of_a_finding_begins_with_its_severity_and_topic() -> None:
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("deploy_check", "--url", "ginkgo", stdout=out)
    assert "error url: ginkgo is not ready: " in out.getvalue()
    assert "[" not in out.getvalue()


def test_malformed_url_is_a_finding_of_the_deploy_check() -> None:
    urls = ("https://[::1", "https://ginkgo:80a", "https://a..b", "https://a b", "ginkgo")
    _, document = checked(*(word for url in urls for word in ("--url", url)))
    found = [f["found"] for f in document["findings"] if f["topic"] == "url"]
    assert len(found) == len(urls)
    assert all(any(f.startswith(f"{url} is not ready: ") for f in found) for url in urls), found
    assert len(document["findings"]) > len(urls)


def test_stored_secret_that_no_key_reads_is_a_finding_of_the_deploy_check(settings: Any) -> None:
    settings.GINKGO = replace(settings.GINKGO, encryption_keys=(new_key(),))
    set_secret("feed-token", "x", actor="ann")
    assert "secrets" not in topics(checked()[1])
    settings.GINKGO = replace(settings.GINKGO, encryption_keys=(new_key(),))
    code, document = checked()
    (found,) = [f for f in document["findings"] if f["topic"] == "secrets"]
    assert (code, found["severity"]) == (1, "error")
    assert found["found"].startswith("The secret feed-token cannot be decrypted: ")


def test_nats_server_that_does_not_answer_is_a_finding_of_the_deploy_check(settings: Any) -> None:
    settings.GINKGO = replace(settings.GINKGO, nats_url="nats://127.0.0.1:1")
    code, document = checked()
    (found,) = [f for f in document["findings"] if f["topic"] == "nats"]
    assert (code, found["severity"]) == (1, "error")
    assert found["found"].startswith("The NATS server does not answer")
    settings.GINKGO = replace(settings.GINKGO, nats_url=None)
    create_feed("tape", [], actor="ann")
    FeedWriter.objects.update(in_stream=True)
    assert "nats" in topics(checked()[1])


class Redirecting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(301)
        self.send_header("Location", f"https://ginkgo.example.org{self.path}")
        self.end_headers()


def test_proxy_without_x_forwarded_proto_is_named_by_the_deploy_check() -> None:
    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        _, document = checked("--url", f"http://127.0.0.1:{server.server_port}")
    (found,) = [f for f in document["findings"] if f["topic"] == "url"]
    assert "(301)" in found["found"]
    assert "the proxy does not set X-Forwarded-Proto: https" in found["found"]


def test_missing_migration_and_migration_of_a_newer_version_are_findings() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied)"
            " VALUES ('scheduling', '9999_later', now())"
        )
        _, document = checked()
        (newer,) = [f for f in document["findings"] if f["topic"] == "migrations"]
        assert "scheduling.9999_later" in newer["found"]
        cursor.execute(
            "DELETE FROM django_migrations WHERE app = 'scheduling' AND name ="
            " (SELECT max(name) FROM django_migrations WHERE app = 'scheduling' AND name < '9')"
        )
    code, document = checked()
    assert code == 1
    missing = "1 migration of this version must still be applied"
    assert any(finding["found"].startswith(missing) for finding in document["findings"])
