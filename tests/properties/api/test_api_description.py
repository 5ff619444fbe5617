"""Drawn requests to every operation of the API, as nobody, viewer and operator.

Each answer has a status, a content type, headers and a body that the OpenAPI description states,
and none is a failure of the server. To draw more: GINKGO_API_EXAMPLES=200.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import requests
import schemathesis
from django.db import transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from scheduling.api.throttling import ReadThrottle, WriteThrottle
from scheduling.operations.feeds import create_feed
from scheduling.permissions import Role
from tests.support.api_client import ApiClient, make_api_client
from tests.support.artifacts import store_artifact
from tests.support.factories import make_node, make_portfolio, make_running_portfolio

pytestmark = pytest.mark.django_db

EXAMPLES = int(os.environ.get("GINKGO_API_EXAMPLES", "1"))
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
MANY = EXAMPLES > 1
#: Of the fleet, or drawn.
NAMES = ("canary-1", "canary-2", "node-1", "crypto", "")
#: These start processes, or wait for them.
LEFT_OUT = {"/api/artifacts/"}


@pytest.fixture(scope="module")
def described() -> Any:
    """The operations, as schemathesis reads their description."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    return schemathesis.openapi.from_dict(document)


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> dict[str, ApiClient]:
    """Who asks, in a fleet that has one of everything."""
    for throttle in (ReadThrottle, WriteThrottle):
        monkeypatch.setattr(throttle, "rate", "1000000/min")
    daemon = make_node("node-1")
    make_node("node-2")
    make_running_portfolio("canary-1", daemon, events=20, strategy="sma_cross", symbols=["IBM"])
    make_portfolio("canary-2", desired_state="stopped")
    create_feed("crypto", [], actor="test")
    store_artifact()
    return {
        "nobody": ApiClient(),
        "viewer": make_api_client(Role.VIEWER, "vera"),
        "operator": make_api_client(Role.OPERATOR, "olive"),
    }


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
    return Response(answer.status_code, given, answer.content, prepared, 0.0, verify=False)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE])
def test_every_answer_is_as_described(
    described: Any, callers: dict[str, ApiClient], mode: GenerationMode
) -> None:
    found, seen = [], 0
    for result in described.get_all_operations():
        operation = result.ok()
        if operation.path in LEFT_OUT or not (MANY or mode.is_positive or len(operation.body)):
            continue
        seen += 1
        try:
            _check(operation, callers, mode)
        except (AssertionError, FailureGroup) as error:
            found.append(f"{operation.label}: {error}")
    assert found == [], "\n\n".join(found)
    assert seen > 20


def _check(operation: Any, callers: dict[str, ApiClient], mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode), name=st.sampled_from(NAMES))
    def check(case: Any, name: str) -> None:
        if name and "name" in (case.path_parameters or {}):
            case.path_parameters["name"] = name
        for who, caller in callers.items():
            if mode.is_negative and who != "operator" and not MANY:
                continue
            with transaction.atomic():
                answer = sent(case, caller)
                transaction.set_rollback(True)
            assert answer.status_code < 500, (who, answer.content)
            case.validate_response(answer, checks=CHECKS)
            if who == "nobody":
                assert answer.status_code in (401, 404), answer.content
            if who == "viewer" and case.method != "GET":
                assert answer.status_code in (403, 404), answer.content

    check()
