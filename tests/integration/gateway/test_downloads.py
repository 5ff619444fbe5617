"""Downloads of artifacts and locks: which node gets which, in parts, without delaying others."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from portfolios.models import Artifact
from scheduling import operations
from scheduling.gateway import app, downloads
from scheduling.gateway.app import gateway
from scheduling.models import Handoff, Run
from tests.support.artifacts import store_artifact
from tests.support.factories import FakeNode, make_node, make_portfolio
from tests.support.gateway_requests import admitted_node, serve

pytestmark = pytest.mark.django_db(transaction=True)

LOCK = "numpy==2.0 --hash=sha256:" + "a" * 64 + "\n"


class Answer:
    """What one GET was answered with."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        self.complete = False

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def code(self) -> str:
        found: str = msgspec.msgpack.decode(self.body)["code"]
        return found

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message["headers"])
        else:
            self.parts.append(message["body"])
            self.complete = not message.get("more_body")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_one_part", asyncio.Lock())
    monkeypatch.setattr(downloads, "PART_BYTES", 300)


async def get(path: str, daemon: FakeNode, answer: Answer | None = None) -> Answer:
    answer = answer or Answer()
    token = f"Bearer token of {daemon.name}".encode()
    scope = {
        "type": "http", "method": "GET", "path": path, "headers": [(b"authorization", token)],
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await gateway(scope, receive, answer.send)
    return answer


@pytest.fixture
def artifact() -> Artifact:
    found = store_artifact()
    found.lock, found.env_sha256 = LOCK, hashlib.sha256(LOCK.encode()).hexdigest()
    found.save(update_fields=["lock", "env_sha256"])
    return found


@pytest.fixture
def node(artifact: Artifact) -> FakeNode:
    """Return the node that prepares a portfolio with the artifact."""
    daemon = admitted_node("node-1")
    make_portfolio("p", strategy="momentum", symbols=["IBM"], artifact=artifact.sha256)
    operations.migrate("p", "node-1", actor="olive")
    return daemon


def test_node_downloads_the_artifact_of_its_handoff_in_parts(
    node: FakeNode, artifact: Artifact
) -> None:
    answer = serve(lambda: get(f"/node/artifacts/{artifact.sha256}", node))
    assert answer.status == 200
    assert hashlib.sha256(answer.body).hexdigest() == artifact.sha256
    assert answer.headers[b"content-length"] == str(artifact.size).encode()
    assert max(map(len, answer.parts)) == 300
    assert answer.complete


def test_node_gets_the_lock_of_its_environment(node: FakeNode, artifact: Artifact) -> None:
    answer = serve(lambda: get(f"/node/environments/{artifact.env_sha256}", node))
    assert (answer.status, answer.body.decode()) == (200, LOCK)


def test_another_node_gets_neither_artifact_nor_lock(node: FakeNode, artifact: Artifact) -> None:
    other = admitted_node("node-2")
    for path in (f"artifacts/{artifact.sha256}", f"environments/{artifact.env_sha256}"):
        answer = serve(partial(get, f"/node/{path}", other))
        assert (answer.status, answer.code) == (404, "not_found")


def test_owner_gets_the_artifact_of_its_wanted_revision_before_the_reload(
    node: FakeNode, artifact: Artifact
) -> None:
    """A restart needs the running bytes, and the daemon may fetch the next ones early."""
    Run.objects.update(node=node.row, incarnation=node.incarnation)
    Handoff.objects.update(state="done")
    wanted = store_artifact("2.0", code="two")
    operations.revise_portfolio("p", {"artifact": wanted.sha256}, actor="olive")
    for sha256 in (artifact.sha256, wanted.sha256):
        assert serve(partial(get, f"/node/artifacts/{sha256}", node)).status == 200


def test_malformed_download_path_is_not_found(node: FakeNode) -> None:
    for path in ("/node/artifacts/abc", "/node/", "/node/artifacts/../x"):
        assert serve(partial(get, path, node)).status == 404, path


def test_unknown_token_gets_no_download(artifact: Artifact) -> None:
    stranger = make_node("node-1")
    answer = serve(lambda: get(f"/node/artifacts/{artifact.sha256}", stranger))
    assert (answer.status, answer.code) == (401, "unauthenticated")


class Stalled(Answer):
    """An answer whose reader stops at the first part."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.parts:
            await asyncio.Event().wait()


def test_node_that_does_not_read_its_download_delays_no_other_node(
    node: FakeNode, artifact: Artifact
) -> None:
    other = admitted_node("node-2")
    make_portfolio("q", strategy="momentum", symbols=["IBM"], artifact=artifact.sha256)
    operations.migrate("q", "node-2", actor="olive")

    async def scenario() -> Answer:
        path = f"/node/artifacts/{artifact.sha256}"
        stalled = [Stalled() for _ in range(5)]
        slow = [asyncio.create_task(get(path, node, answer)) for answer in stalled]
        while sum(bool(answer.parts) for answer in stalled) < 2:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(SLOW_MACHINE_S):
            answer = await get(path, other)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return answer

    assert serve(scenario).complete


def _nothing() -> Any:
    return b""
    yield


def _failure() -> Any:
    raise ValueError("no part")
    yield


@pytest.mark.parametrize(
    ("second_part", "logged"),
    [
        (_nothing, "the artifact was deleted after 300 of {size} bytes"),
        (_failure, "ValueError after 300 of {size} bytes: no part"),
    ],
)
def test_artifact_whose_second_part_cannot_be_read_ends_the_answer_short(
    node: FakeNode,
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    second_part: Callable[[], Any],
    logged: str,
) -> None:
    caplog.set_level("INFO", app.logger.name)
    answer = Answer()
    send = answer.send

    async def scenario() -> None:
        async def replace_after_first(message: Any) -> None:
            await send(message)
            if len(answer.parts) == 1:
                monkeypatch.setattr(downloads, "wheel_part", lambda *_: second_part())

        answer.send = replace_after_first  # type: ignore[method-assign]
        await get(f"/node/artifacts/{artifact.sha256}", node, answer)

    serve(scenario)
    assert (answer.status, len(answer.parts), answer.complete) == (200, 1, False)
    assert logged.format(size=int(answer.headers[b"content-length"])) in caplog.text


def test_log_names_the_limit_and_the_bytes_of_a_download_that_takes_too_long(
    node: FakeNode,
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(downloads, "DOWNLOAD_LIMIT_S", 0.1)
    caplog.set_level("INFO", app.logger.name)
    answer = Stalled()
    serve(lambda: get(f"/node/artifacts/{artifact.sha256}", node, answer))
    size = int(answer.headers[b"content-length"])
    assert f"was not sent completely: only 0 of {size} bytes within 0.1 s" in caplog.text
