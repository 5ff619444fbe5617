"""What the web process does when it starts."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from ginkgo_site import asgi


def test_startup_freezes_imported_objects_for_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing() -> None: ...

    monkeypatch.setattr(asgi, "open_gateway", nothing)
    monkeypatch.setattr(asgi, "close_gateway", nothing)
    coming = iter(("startup", "shutdown"))
    sent: list[str] = []

    async def receive() -> Any:
        return {"type": f"lifespan.{next(coming)}"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    gc.unfreeze()
    try:
        asyncio.run(asgi.application({"type": "lifespan"}, receive, send))
        assert gc.get_freeze_count() > len(gc.get_objects())
    finally:
        gc.freeze()
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
