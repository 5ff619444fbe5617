"""An exporter to memory in the place of a collector of traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from scheduling import tracing


class Collector:
    """Collects the spans that this process sends."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.sender = tracing._Sender("ginkgo-test", "node-1", self._exporter)

    def spans(self) -> list[Any]:
        """Return the spans so far, in the order in which they ended."""
        self.sender.provider.force_flush()
        return list(self._exporter.get_finished_spans())


@contextmanager
def tracing_to_memory() -> Iterator[Collector]:
    """Switch traces on within the block."""
    made = Collector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "is_on", True)
        patch.setattr(tracing, "_sender", made.sender)
        yield made
    made.sender.end(within_s=60)
