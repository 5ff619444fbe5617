"""Drawn requests to every operation of the API, as nobody, viewer and operator.

Each answer has a status, a content type, headers and a body that the OpenAPI description states,
and none is a failure of the server. To draw more, and requests that break the description too:
GINKGO_API_EXAMPLES=20, for one part of the API GINKGO_API_PART=/api/nodes/; pytest -s shows each.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import requests
import schemathesis
from django.db import connection, transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response
from schemathesis.specs.openapi import checks

from ginkgo_site import encryption_keys
from scheduling.api.throttling import AppendThrottle, ReadThrottle, WriteThrottle
from scheduling.db import transaction as db_transaction
from scheduling.db.transaction import execute_autocommit
from scheduling.enact.lease import mark_lost
from scheduling.models import Alert, Event, Halt, Handoff, NodeToken, RollOut
from scheduling.operations.feeds import create_feed
from scheduling.permissions import Role
from scheduling.timing import timing
from tests.support.api_client import ApiClient, make_api_client
from tests.support.artifacts import store_artifact
from tests.support.factories import (
    ago,
    expire_lease,
    make_portfolio,
    make_running_portfolio,
    make_settled_nodes,
)

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

EXAMPLES = int(os.environ.get("GINKGO_API_EXAMPLES", "1"))
PART = os.environ.get("GINKGO_API_PART", "/api/")
CHECKS = [
    checks.content_type_conformance, checks.response_headers_conformance,
    checks.response_schema_conformance, checks.status_code_conformance,
]  # fmt: skip
MANY = EXAMPLES > 1
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if MANY else [GenerationMode.POSITIVE]
ROLES = ("nobody", "viewer", "operator")

#: Of the fleet, by the second part of an address: what its {name}, {id} or {sha256} may be.
Known = dict[str, Sequence[Any]]


@pytest.fixture(scope="module")
def described() -> Any:
    """The operations, as schemathesis reads their description."""
    return schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch, settings: Any) -> dict[str, ApiClient]:
    keys = (encryption_keys.new_key(),)
    settings.GINKGO = replace(settings.GINKGO, encryption_keys=keys)
    monkeypatch.setattr(db_transaction, "IDLE_LIMIT", "10min")  # while requests are drawn
    for throttle in (AppendThrottle, ReadThrottle, WriteThrottle):
        monkeypatch.setattr(throttle, "rate", "1000000/min")
    return {
        "nobody": ApiClient(),
        "viewer": make_api_client(Role.VIEWER, "vera"),
        "operator": make_api_client(Role.OPERATOR, "olive"),
    }


@pytest.fixture
def known(callers: dict[str, ApiClient]) -> Known:
    """A fleet that has one of everything."""
    operator = callers["operator"]
    daemon, _, lost = make_settled_nodes(3)
    make_running_portfolio("canary-1", daemon, events=20, strategy="sma_cross", symbols=["IBM"])
    make_portfolio("canary-2", desired_state="stopped")
    create_feed("crypto", [], actor="test")
    artifact = store_artifact()
    for path, body in (
        ("alert-channels/", {"name": "desk", "address": "json://localhost"}),
        ("secrets/", {"name": "shared", "value": "s3cret"}),
        ("node-tokens/", {"node": "node-1"}),
        ("halt/", {}),
    ):
        assert operator.post(path, body).status_code < 300
    expire_lease(lost)
    execute_autocommit(mark_lost(timing()))
    Alert.objects.create(kind="node_lost", key="node:3", reason="silent", opened_at=ago(1))
    RollOut.objects.create(artifact=artifact, created_at=ago(1))
    return {
        "alert-channels": ["desk"], "alerts": keys(Alert),
        "artifacts": [artifact.sha256, artifact.sha256[:12]], "feeds": ["crypto", "replay"],
        "halt": keys(Halt), "handoffs": keys(Handoff), "incidents": keys(Event, kind="node_lost"),
        "node-tokens": keys(NodeToken), "nodes": ["node-1", "node-2", "node-3"],
        "portfolios": ["canary-1", "canary-2"], "roll-outs": keys(RollOut), "secrets": ["shared"],
    }  # fmt: skip


def keys(model: Any, **which: str) -> list[int]:
    """Return the numbers of the rows, of which there are some."""
    found = list(model.objects.filter(**which).values_list("pk", flat=True))
    assert found, model
    return found


def sent(case: Any, caller: ApiClient) -> Response:
    """Send a drawn request with the client of a caller."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://testserver")).prepare()
    body: Any = prepared.body or b""
    headers = {str(name): str(value) for name, value in prepared.headers.items()}
    kind = headers.pop("Content-Type", "application/json")
    answer = caller.raw(
        str(prepared.method),
        prepared.path_url.removeprefix("/api/"),
        body if isinstance(body, bytes) else body.encode(),
        kind,
        {
            name: value
            for name, value in headers.items()
            if name not in ("Authorization", "Content-Length", "Cookie")
        },
    )
    given = {name: [value] for name, value in answer.headers.items()}
    # What is sent while it is made is also a body.
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return Response(answer.status_code, given, content, prepared, 0.0, verify=False)


@pytest.mark.parametrize("mode", MODES)
def test_every_api_response_matches_its_description(
    described: Any, callers: dict[str, ApiClient], known: Known, mode: GenerationMode
) -> None:
    with connection.cursor() as cursor:  # while cases are drawn, the transaction idles
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
    found, unreached = [], []
    for result in described.get_all_operations():
        operation = result.ok()
        if not operation.path.startswith(PART):
            continue
        answers: dict[str, Counter[int]] = {role: Counter() for role in ROLES}
        since = time.process_time()
        try:
            _check(operation, callers, known, mode, answers)
        except (AssertionError, FailureGroup) as error:
            found.append(f"{operation.label}: {error}")
        if MANY:
            counts = {role: dict(sorted(answers[role].items())) for role in ROLES}
            took = time.process_time() - since
            print(f"{mode.value} {operation.label} {took:.1f} s {counts}", flush=True)
        unreached += [(role, operation.label) for role in ROLES if not answers[role]]
    assert found == [], "\n\n".join(found)
    assert unreached == []


def _check(
    operation: Any, callers: dict[str, ApiClient], known: Known, mode: GenerationMode,
    answers: dict[str, Counter[int]],
) -> None:  # fmt: skip
    """Send drawn requests to the operation, and count the statuses of the answers."""
    there = known.get(operation.path.split("/")[2], ())

    @drawing(
        max_examples=EXAMPLES, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(mode), key=st.sampled_from([*there, None]))
    def check(case: Any, key: Any) -> None:
        for name in set(case.path_parameters or {}) & {"name", "id", "sha256"}:
            if key is not None:
                case.path_parameters[name] = key
        for role, caller in callers.items():
            with transaction.atomic():
                answer = sent(case, caller)
                transaction.set_rollback(True)
            answers[role][answer.status_code] += 1
            assert answer.status_code < 500, (role, answer.content)
            case.validate_response(answer, checks=CHECKS)
            if role == "nobody":
                assert answer.status_code in (401, 404), answer.content
            if role == "viewer" and case.method != "GET":
                assert answer.status_code in (403, 404), answer.content

    check()
