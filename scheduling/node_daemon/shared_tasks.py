"""At most one task at a time for each key, shared by all callers that need its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedTasks(Generic[T]):
    """Tasks in progress, by key. A task continues even if all callers that wait are cancelled."""

    def __init__(self, begin: Callable[[str], Coroutine[Any, Any, T]]) -> None:
        self._begin = begin
        self._tasks: dict[str, asyncio.Task[T]] = {}

    async def result(self, key: str) -> T:
        """Return the result of the task of `key`; begin the task if it is not in progress."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._begin(key))
            task.add_done_callback(lambda done: self._on_done(key, done))
        return await asyncio.shield(task)

    def _on_done(self, key: str, done: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not done.cancelled():
            done.exception()  # mark it as retrieved: nobody may be waiting any more
