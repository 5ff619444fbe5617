"""The control plane's part of the trace of a handoff: request, report, release, deadline."""

from __future__ import annotations

import contextlib

import pytest
from django.db import transaction
from opentelemetry.trace import StatusCode

from scheduling import operations, tracing
from scheduling.models import Handoff
from scheduling.passes.sweep import _expire
from scheduling.timing import timing
from scheduling.wire.messages import Prepared
from tests.support.factories import FakeNode, ago, make_trader
from tests.support.gateway_requests import admitted_node, beat, commit, post
from tests.support.traces import tracing_to_memory

pytestmark = pytest.mark.django_db(transaction=True)


def test_steps_of_a_handoff_share_its_trace(node: FakeNode) -> None:
    hand = make_trader("p", node)
    target = admitted_node("node-2")
    with tracing_to_memory() as collector:
        with contextlib.suppress(KeyError), transaction.atomic():
            operations.migrate("p", "node-2", actor="ann")
            raise KeyError  # rolled back: there is no such handoff
        handoff = operations.migrate("p", "node-2", actor="ann", reason="less load")
        ready = beat(target, reports=[Prepared(handoff=handoff.pk)])
        for _ in range(2):  # the second changes nothing, and makes no span
            post("heartbeat/", ready, token="token of node-2")
        assert commit(node, hand.release_message(handoff, 3)) == [("handed_over", "")]
        Handoff.objects.filter(pk=handoff.pk).update(deadline_at=ago(1))
        assert _expire(handoff.pk, timing())
    spans = collector.spans()
    assert {span.context.trace_id for span in spans} == {tracing.trace_id(handoff.pk)}
    told = [(span.name, span.attributes.get("ginkgo.outcome")) for span in spans]
    assert told == [
        ("handoff requested", None),
        ("drain or grant", "draining"),
        ("grant after release", "handed_over"),
        ("deadline passed", "rolled_back"),
    ]
    request, _, _, late = spans
    assert {span.parent.span_id for span in spans[1:]} == {request.context.span_id}
    assert dict(request.attributes) | {"ginkgo.epoch": 0} == {
        "ginkgo.handoff": handoff.pk,
        "ginkgo.kind": "migrate",
        "ginkgo.portfolio": "p",
        "ginkgo.cause": "less load",
        "ginkgo.epoch": 0,
        "ginkgo.source": "node-1",
        "ginkgo.target": "node-2",
        "ginkgo.node": "node-1",
    }
    assert late.status.status_code is StatusCode.ERROR
