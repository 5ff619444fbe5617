"""Spans of handoffs: their ids, attributes and errors; and nothing without a collector."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from scheduling import tracing
from tests.support.patches import raising
from tests.support.python_process import run_python
from tests.support.traces import Collector, tracing_to_memory


@pytest.fixture
def collector() -> Iterator[Collector]:
    with tracing_to_memory() as made:
        yield made


def test_spans_of_one_handoff_share_a_trace_whose_first_span_is_the_request(
    collector: Collector,
) -> None:
    with tracing.handoff_span(7, "prepare", portfolio="eur", epoch=3) as span:
        span.note(outcome="prepared")
    tracing.handoff_span(7, tracing.REQUESTED, cause="drain of node-2", target=None).end()
    with tracing.handoff_span(8, "prepare"):
        pass
    prepare, request, other = collector.spans()
    assert prepare.context.trace_id == request.context.trace_id == tracing.trace_id(7)
    assert other.context.trace_id == tracing.trace_id(8) != tracing.trace_id(7)
    assert request.parent is None
    assert prepare.parent.span_id == request.context.span_id == tracing.first_span_id(7)
    assert prepare.context.span_id != request.context.span_id
    assert dict(prepare.attributes) == {
        "ginkgo.handoff": 7,
        "ginkgo.node": "node-1",
        "ginkgo.portfolio": "eur",
        "ginkgo.epoch": 3,
        "ginkgo.outcome": "prepared",
    }
    assert "ginkgo.target" not in request.attributes
    assert prepare.resource.attributes["service.name"] == "ginkgo-test"
    assert prepare.status.status_code is StatusCode.UNSET


def test_trace_ids_of_a_handoff_are_the_same_in_every_process_and_version() -> None:
    # sha256("ginkgo/handoff/7"), by sha256sum
    assert f"{tracing.trace_id(7):032x}{tracing.first_span_id(7):016x}" == (
        "24bd06ba5b5544e78373a1963765e054f77f9c96e5ceae85"
    )


def test_error_within_a_span_becomes_the_status_of_that_span_and_is_raised(
    collector: Collector,
) -> None:
    with pytest.raises(ValueError, match="no memory"), tracing.handoff_span(7, "prepare"):
        raise ValueError("no memory")
    with tracing.handoff_span(7, "activate") as span:
        span.note("fenced")
    with tracing.handoff_span(7, "deadline passed") as span:
        span.drop()
    ends = [(s.status.status_code, s.status.description) for s in collector.spans()]
    assert ends == [(StatusCode.ERROR, "no memory"), (StatusCode.ERROR, "fenced")]


def test_a_failure_of_the_library_does_not_reach_the_caller(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector.sender, "send", raising(RuntimeError("a bug of the library")))
    with tracing.handoff_span(7, "prepare"):
        pass


USE = """
import sys
from scheduling import tracing
tracing.start("ginkgo-node", "node-1")
with tracing.handoff_span(7, "prepare", portfolio="eur") as span:
    assert span is tracing.NO_SPAN
print(*sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""


def test_tracing_library_is_not_imported_without_a_collector() -> None:
    # Empty counts as unset; the shell that runs the tests may have set it.
    done = run_python("-c", USE, OTEL_EXPORTER_OTLP_ENDPOINT="")
    assert (done.returncode, done.stdout.split()) == (0, [])


def test_a_configured_collector_without_the_packages_is_reported_once() -> None:
    lacking = "import sys; sys.modules['opentelemetry.sdk'] = None\n"
    answer = run_python("-c", lacking + USE, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert answer.returncode == 0
    assert answer.stderr.count("no traces are sent") == 1
    assert "requirements-tracing.txt" in answer.stderr


def test_the_end_of_a_process_waits_briefly_for_a_collector_that_hangs() -> None:
    class Hanging(InMemorySpanExporter):
        def export(self, spans: object) -> None:  # type: ignore[override]
            hung.recv(1)

    hung, other = socket.socketpair()
    sender = tracing._Sender("ginkgo-test", "", Hanging())
    sender.send(7, "prepare", time.time_ns(), {}, "")
    sender.end(within_s=0.05)
    assert sender._ender.is_alive()  # it was not waited for
    other.close()
    sender._ender.join(60)
    assert not sender._ender.is_alive()
    hung.close()
