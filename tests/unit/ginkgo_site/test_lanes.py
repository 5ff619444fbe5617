"""Lanes: how many requests are inside, of whom, and who is next."""

from __future__ import annotations

import asyncio

import pytest
from django.core.exceptions import RequestAborted
from django.test import RequestFactory

from ginkgo_site.database import django_database, share_connections
from ginkgo_site.web.busy import Busy, busy_response
from ginkgo_site.web.lane_sizes import BESIDE, GENERAL_SIZE, LOGIN_SIZE, RESERVE_SIZE
from ginkgo_site.web.lanes import MAX_BODY_BYTES, Lane, LanedHandler, _to_its_end


def a_lane(size: int = 2, per_address: int = 2, wait_s: float = 5, most_waiting: int = 2) -> Lane:
    return Lane("general", size, per_address, wait_s, most_waiting)


def test_the_database_pool_has_a_connection_for_every_admitted_request() -> None:
    database = django_database("postgresql://u@h/d")
    share_connections(database)
    connections = database["OPTIONS"]["pool"]["max_size"]
    assert connections == LOGIN_SIZE + RESERVE_SIZE + GENERAL_SIZE + BESIDE


async def test_one_client_address_gets_no_more_than_its_share_of_places() -> None:
    lane = a_lane(size=4, per_address=2)
    await lane.enter("a")
    await lane.enter("a")
    with pytest.raises(Busy) as refused:
        await lane.enter("a")
    assert refused.value.status == 429
    await lane.enter("b")
    lane.leave("a")
    await lane.enter("a")


async def test_a_place_goes_to_the_request_that_has_waited_longest() -> None:
    lane = a_lane(size=1)
    await lane.enter("a")
    order: list[str] = []

    async def wait(name: str) -> None:
        await lane.enter(name)
        order.append(name)

    first = asyncio.create_task(wait("b"))
    second = asyncio.create_task(wait("c"))
    await asyncio.sleep(0)
    lane.leave("a")
    await first
    lane.leave("b")
    await second
    assert order == ["b", "c"]


async def test_a_request_at_a_full_queue_gets_503_at_once_and_one_that_waits_long_too() -> None:
    lane = a_lane(size=1, wait_s=0.01, most_waiting=1)
    await lane.enter("a")
    waiting = asyncio.create_task(lane.enter("b"))
    await asyncio.sleep(0)
    with pytest.raises(Busy) as refused:
        await lane.enter("c")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 2)
    with pytest.raises(Busy, match="too busy for"):
        await waiting
    lane.leave("a")
    await lane.enter("d")
    assert lane._inside == 1


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/", "服务器已连续 5 秒过于繁忙：请在 2 秒后重试。"),
        ("/api/nodes/", "too busy for 5 s: try"),
    ],
)
def test_refusal_of_a_lane_is_in_the_language_of_a_page_and_in_english_for_a_program(
    path: str, sentence: str
) -> None:
    request = RequestFactory().get(path, HTTP_ACCEPT_LANGUAGE="zh-CN")
    busy = Busy(503, "The server was too busy for %(seconds)g s", 2, seconds=5.0)
    assert sentence in busy_response(request, busy).content.decode()


async def test_a_client_that_disconnects_while_it_waits_frees_its_place() -> None:
    lane = a_lane(size=1)
    await lane.enter("a")
    waiting = asyncio.create_task(lane.enter("b"))
    await asyncio.sleep(0)
    lane.leave("a")  # handed to b, which is cancelled before it hears of it
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert lane._inside == 0
    assert not lane._by_address


async def test_request_whose_client_went_away_is_finished() -> None:
    ended = asyncio.Event()
    goes_on = asyncio.Event()

    async def work() -> object:
        await goes_on.wait()
        ended.set()
        return object()

    watching = asyncio.create_task(_to_its_end(asyncio.ensure_future(work())))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.sleep(0)
    assert not watching.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert ended.is_set()


async def test_body_of_an_unknown_sender_is_read_only_up_to_its_limit() -> None:
    parts = 0

    async def receive() -> dict[str, object]:
        nonlocal parts
        parts += 1
        return {"type": "http.request", "body": bytes(1 << 20), "more_body": True}

    with pytest.raises(RequestAborted):
        await LanedHandler().read_body(receive)
    assert parts == (MAX_BODY_BYTES >> 20) + 1
