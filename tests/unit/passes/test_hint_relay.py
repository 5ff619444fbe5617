"""Hints reach the channel layer, and a layer that does not answer holds up nobody."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

from scheduling.hint_relay import MAX_WAITING, HintRelay


def payload(name: str) -> str:
    return json.dumps({"groups": [name], "message": {"type": "wake"}})


class Layer:
    """A channel layer that answers, or waits for an answer that never comes."""

    def __init__(self, *, frozen: bool = False) -> None:
        self.frozen, self.sent = frozen, list[str]()
        self.reached, self.asked = threading.Event(), threading.Event()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.asked.set()
        if self.frozen:
            await asyncio.Event().wait()
        self.sent.append(group)
        if group == "last":
            self.reached.set()


def test_hints_are_relayed_in_order_and_a_broken_one_is_skipped() -> None:
    layer = Layer()
    relay = HintRelay(layer)
    for text in (payload("first"), "no hint", payload("last")):
        relay.send(text)
    assert layer.reached.wait(30)
    assert layer.sent == ["first", "last"]
    assert relay.dropped == 1


def test_a_frozen_channel_layer_blocks_no_sender_and_loses_only_waiting_hints() -> None:
    layer = Layer(frozen=True)
    relay = HintRelay(layer)
    for _ in range(MAX_WAITING + 10):
        relay.send(payload("lost"))  # returns at once, or this test would take minutes
    assert layer.asked.wait(30)
    assert relay.dropped >= 8  # one or two are with the layer
    layer.frozen = False
    while not layer.reached.wait(0.05):
        relay.send(payload("last"))
    assert layer.sent[-1] == "last"
