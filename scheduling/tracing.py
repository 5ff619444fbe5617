"""Traces of handoffs for an OpenTelemetry collector, across web, watcher, worker and nodes.

On only where OTEL_EXPORTER_OTLP_ENDPOINT names a collector and the packages of
requirements-tracing.txt are installed; else nothing of them is imported, and a span costs one
check of `is_on`.

All spans of a handoff belong to one trace without a message between processes: its id is derived
from the number of the handoff, and so is the id of its first span, the parent of all others. A span
is made when its step has ended, and sent by a thread of the library. What fails here is logged and
never reaches the caller.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import platform
import sys
import threading
import time
from typing import Any

logger = logging.getLogger(__name__)

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: Hashed into the ids. Two installations that share a collector need different namespaces, since
#: both count their handoffs from 1.
NAMESPACE = "ginkgo"

SEND_EVERY_MS = 1_000
END_WITHIN_S = 1.0  #: by which a collector that does not answer may delay the end of a process

REQUESTED = "handoff requested"  #: the first span of each trace

is_on = bool(os.environ.get(ENDPOINT_VARIABLE, "").strip())

_lock = threading.Lock()
_sender: _Sender | None = None


def start(service: str = "", node: str = "") -> None:
    """Import the library and start its thread. Without a call, the first span does that.

    For processes with an event loop, which an import of a third of a second would hold up. `node`
    is the name of the node whose daemon this is.
    """
    if is_on:
        _process_sender(service, node)


def handoff_span(handoff: int | None, name: str, **attributes: Any) -> Span:
    """Return a context manager that times one step; NO_SPAN without traces or without a handoff.

    An exception that leaves the block becomes the error of the span, and is not suppressed.
    """
    if not is_on or handoff is None:
        return NO_SPAN
    return HandoffSpan(handoff, name, attributes)


class NoSpan:
    """What `handoff_span` returns where no traces are made."""

    def __enter__(self) -> NoSpan:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def note(self, error: str = "", **attributes: Any) -> None:
        """Do nothing."""

    def drop(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


NO_SPAN = NoSpan()


class HandoffSpan:
    """One step of a handoff, from now until `end`."""

    def __init__(self, handoff: int, name: str, attributes: dict[str, Any]) -> None:
        self._handoff = handoff
        self._name = name
        self._attributes = attributes
        self._error = ""
        self._dropped = False
        self._began_ns = time.time_ns()

    def __enter__(self) -> HandoffSpan:
        """Return the span, for `note`."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        """End the span, with the exception that leaves the block as its error."""
        if kind is not None:  # the exception of a cancelled task has no text
            self._error = self._error or str(error) or f"ended by {kind.__name__}"
        self.end()

    def note(self, error: str = "", **attributes: Any) -> None:
        """Add attributes; `error` says why the step failed."""
        self._attributes |= attributes
        self._error = error or self._error

    def drop(self) -> None:
        """Discard the span, because the step changed nothing."""
        self._dropped = True

    def end(self) -> None:
        """Send the span, unless it was dropped. Never raises."""
        if self._dropped:
            return
        try:
            sender = _process_sender()
            if sender is not None:
                sender.send(
                    self._handoff, self._name, self._began_ns, self._attributes, self._error
                )
        except Exception:
            logger.exception("the span %s of handoff %d was lost", self._name, self._handoff)


Span = HandoffSpan | NoSpan


def trace_id(handoff: int, namespace: str = NAMESPACE) -> int:
    """Return the trace id of a handoff, the same in every process. Pure."""
    return int.from_bytes(_digest(handoff, namespace)[:16], "big")


def first_span_id(handoff: int, namespace: str = NAMESPACE) -> int:
    """Return the id of the span `handoff requested`, the parent of the others. Pure."""
    return int.from_bytes(_digest(handoff, namespace)[16:24], "big")


def _digest(handoff: int, namespace: str) -> bytes:
    return hashlib.sha256(f"{namespace}/handoff/{handoff}".encode()).digest()


class _Sender:
    """The library's provider of spans, and the thread that ends it."""

    def __init__(self, service: str, node: str, exporter: Any = None) -> None:
        """Raise ImportError where the packages are not installed."""
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        self.pid = os.getpid()
        default_service = "ginkgo-worker" if sys.argv[1:2] == ["qcluster"] else "ginkgo-command"
        ours = {
            "service.name": service or default_service,
            "service.namespace": NAMESPACE,
            "service.instance.id": node or f"{platform.node()}:{self.pid}",
        }
        self._node = node or None
        # OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence.
        self._resource = Resource.create(ours | dict(OTELResourceDetector().detect().attributes))
        self._namespace = str(self._resource.attributes["service.namespace"])
        self._ids = _ids()
        self.provider = TracerProvider(
            resource=self._resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self.provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS)
        )
        self._tracer = self.provider.get_tracer("ginkgo")
        self._ending = threading.Event()
        # Started now, since no thread can be started any more while the interpreter ends.
        self._ender = threading.Thread(target=self._end_when_asked, name="tracing", daemon=True)
        self._ender.start()

    def send(
        self, handoff: int, name: str, began_ns: int, attributes: dict[str, Any], error: str
    ) -> None:
        """Put one span, which ends now, into the queue of the library."""
        from opentelemetry import trace

        trace_number = trace_id(handoff, self._namespace)
        first_span = first_span_id(handoff, self._namespace)
        parent = trace.SpanContext(
            trace_number,
            first_span,
            is_remote=True,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )
        context: Any = trace.set_span_in_context(trace.NonRecordingSpan(parent), _no_context())
        attributes = {"node": self._node, "handoff": handoff} | attributes
        values = {f"ginkgo.{key}": value for key, value in attributes.items() if value is not None}
        with _lock:  # `_ids` holds those of the next span, whichever thread starts it
            self._ids.set((trace_number, first_span) if name == REQUESTED else None)
            span = self._tracer.start_span(
                name,
                context=_no_context() if name == REQUESTED else context,
                attributes=values,
                start_time=began_ns,
            )
        if error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, error))
        span.end()

    def end(self, within_s: float = END_WITHIN_S) -> None:
        """Send the queued spans, and wait for that at most `within_s`."""
        self._ending.set()
        self._ender.join(within_s)

    def _end_when_asked(self) -> None:
        """Shut the provider down once `end` asks; in a thread, so that `end` can stop waiting."""
        self._ending.wait()
        self.provider.shutdown()


def _no_context() -> Any:
    """Return an empty context: with none, the library takes the current span as the parent."""
    from opentelemetry.context import Context

    return Context()


def _ids() -> Any:
    """Return a generator of ids for the library; `set` gives it those of a first span."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        _given: tuple[int, int] | None = None  #: (trace id, span id) of the next span; None: random

        def set(self, given: tuple[int, int] | None) -> None:
            self._given = given

        def generate_trace_id(self) -> int:
            return self._given[0] if self._given else super().generate_trace_id()

        def generate_span_id(self) -> int:
            return self._given[1] if self._given else super().generate_span_id()

    return Ids()


def _process_sender(service: str = "", node: str = "") -> _Sender | None:
    """Return the sender of this process, started if needed; None if no traces can be sent.

    The cause is logged once, since `is_on` is False from then on.
    """
    global _sender, is_on
    with _lock:
        if _sender is None or _sender.pid != os.getpid():  # a worker of the queue is a fork
            try:
                _sender = _Sender(service, node)
                atexit.register(_sender.end)
            except ImportError as error:
                is_on = False
                logger.warning(
                    "%s is set, but no traces are sent: %s; install the packages with "
                    "`pip install --require-hashes -r requirements-tracing.txt`.",
                    ENDPOINT_VARIABLE,
                    error,
                )
                return None
            except Exception as error:
                is_on = False
                logger.warning("no traces are sent: %s: %s", type(error).__name__, error)
                return None
        return _sender
