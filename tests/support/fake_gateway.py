"""An in-memory gateway that speaks the node protocol and fails on request."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from chaos.harness.installation import SLOW_MACHINE_S
from portfolios.feeds import open_feed
from scheduling.wire import messages as wire

TTL_S = 30.0


@dataclass
class FakeRun:
    """The run of a portfolio."""

    epoch: int
    revision: int
    last_seq: int
    node: str
    state: bytes | None = None
    state_seq: int = 0
    state_revision: int = 1
    batch: str = ""
    commits: list[wire.Commit] = field(default_factory=list)
    taken_at_s: list[float] = field(default_factory=list)  #: monotonic time of each accepted commit


class FakeGateway:
    """Serves the desired sets given by the test, and fences commits as the real gateway."""

    def __init__(self, rate: float = 100.0, released: int = 1000) -> None:
        self.feed = open_feed("replay")
        began = time.time_ns() // 1000 - int(released / rate * 1e6)
        self.segments = [wire.SegmentInfo(0, began, rate)]
        self.runs: dict[int, FakeRun] = {}
        self.entries: dict[str, list[wire.DesiredEntry]] = {}
        self.versions: dict[str, int] = {}
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.registered: list[tuple[str, wire.Register]] = []
        self.beats: list[tuple[str, wire.Heartbeat]] = []
        self.reports: list[tuple[str, wire.Report]] = []
        self.bodies: list[bytes] = []
        self.goodbyes: list[str] = []
        self.log_lines: list[tuple[str, int, int, str]] = []  #: node, portfolio, epoch, text
        self.speaks: tuple[int, ...] = wire.SPOKEN
        self.asked_in: list[int] = []  #: the protocol of each registration, refused ones included
        self.files: dict[str, bytes] = {}  #: by sha256: wheels and locks that nodes may fetch
        self.fetched: list[str] = []  #: the sha256 of each request for a file, in order
        self.files_wait: asyncio.Event | None = None  #: files stop half-way until it is set
        self.stale_order_age_s = 5.0
        self.behave()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeGateway:
        app = web.Application(client_max_size=32 << 20)
        app.router.add_post("/api/agent/{what}/", self._post)
        app.router.add_get("/ws/agent/", self._socket)
        app.router.add_get("/node/{kind}/{sha256}", self._file)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    # --- used by tests -----------------------------------------------------------------------

    def behave(self, *, ttl_s: float = TTL_S, next_beat_s: float = 10.0) -> None:
        """Fail in no way, whatever was asked for before."""
        self.ttl_s, self.next_beat_s = ttl_s, next_beat_s
        self.frozen = self.reject_next = self.revoked = False
        self.pushing = self.socket_open = True
        self.refuse_register: tuple[int, str, str] | None = None  #: status, code, message
        self.status: dict[str, str] = {}
        self.refuses_heartbeats = False  #: answer 503 to heartbeats only
        self.refused_heartbeats = self.lose_release_answers = 0
        self.away = False  #: answer 503 to everything
        self.paused_at: int | None = None  #: the feed is paused at this seq
        self.release_answer = "handed_over"

    def head(self) -> int:
        (segment,) = self.segments
        return int((time.time_ns() // 1000 - segment.from_time_us) * segment.rate / 1e6)

    def grant(
        self, node: str, portfolio: int, revision: int = 1, last_seq: int | None = None
    ) -> int:
        """Grant a portfolio to `node` under a new epoch, and return the epoch."""
        run = self.runs.get(portfolio)
        if run is None:
            at = self.head() if last_seq is None else last_seq
            run = self.runs[portfolio] = FakeRun(0, revision, at, node, state_seq=at)
        run.epoch += 1
        run.node, run.revision = node, revision
        return run.epoch

    def entry(self, portfolio: int, role: str, **other: Any) -> wire.DesiredEntry:
        """Return a desired-set entry for a canary, or for the given strategy."""
        run = self.runs[portfolio]
        revision = other.pop("revision", run.revision)
        first_seq = other.pop(
            "first_seq", 1 + (run.commits[0].from_seq if run.commits else run.last_seq)
        )
        spec = {
            "portfolio": f"p-{portfolio}", "uid": f"00000000-0000-0000-0000-{portfolio:012d}",
            "revision": revision, "strategy": other.pop("strategy", "canary"),
            "strategy_version": 1, "parameters": other.pop("parameters", {}),
            "symbols": other.pop("symbols", []), "starting_cash": "100000.0000",
            "first_seq": first_seq, "artifact": other.pop("artifact", ""),
            "environment": other.pop("environment", ""),
        }  # fmt: skip
        return wire.DesiredEntry(
            portfolio=portfolio,
            name=f"p-{portfolio}",
            role=role,  # type: ignore[arg-type]
            epoch=other.pop("epoch", run.epoch),
            revision=revision,
            spec=spec,
            **other,
        )

    async def want(self, node: str, *entries: wire.DesiredEntry) -> None:
        """Set the desired set of a node, and push it."""
        self.entries[node] = list(entries)
        self.versions[node] = self.versions.get(node, 0) + 1
        socket = self.sockets.get(node)
        if socket is not None and self.pushing:
            await socket.send_bytes(wire.encode(self.desired(node)))

    def desired(self, node: str) -> wire.DesiredSet:
        info = wire.FeedInfo("replay", self.feed.sha256, self.feed.length, self.segments)
        return wire.DesiredSet(
            self.versions.get(node, 0), self.entries.get(node, []), [info], self.frozen
        )

    def committed(self, portfolio: int) -> int:
        """Return the number of committed events, -1 without any commit."""
        run = self.runs[portfolio]
        return run.last_seq - run.commits[0].from_seq if run.commits else -1

    def longest_gap_s(self, portfolio: int, from_commit: int = 0) -> float:
        """Return the longest gap between commits from number `from_commit` on, and until now."""
        taken = [*self.runs[portfolio].taken_at_s[from_commit:], time.monotonic()]
        return max(after - before for before, after in pairwise(taken))

    def since_commit_s(self, portfolio: int) -> float:
        return time.monotonic() - self.runs[portfolio].taken_at_s[-1]

    async def until(
        self, condition: Any, within_s: float = SLOW_MACHINE_S, every_s: float = 0.01
    ) -> None:
        """Wait until `condition()` holds, asked `every_s`; fail after `within_s`."""
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, f"not within {within_s} s"
            await asyncio.sleep(every_s)

    # --- the protocol ------------------------------------------------------------------------

    async def _post(self, request: web.Request) -> web.Response:
        refused = self.refuses_heartbeats and request.match_info["what"] == "heartbeat"
        self.refused_heartbeats += refused
        if self.away or refused:
            return _answer(wire.Problem(code="unavailable", message="away"), 503)
        if self.revoked:
            return _answer(wire.Problem(code="unauthenticated", message="It was revoked."), 401)
        node = request.headers["Authorization"].removeprefix("Bearer ")
        body = await request.read()
        answer = getattr(self, "_" + request.match_info["what"])(node, body)
        return answer if isinstance(answer, web.Response) else _answer(answer)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            return _answer(wire.Problem(code="unavailable", message="away"), 503)
        sha256 = request.match_info["sha256"]
        self.fetched.append(sha256)
        data = self.files.get(sha256)
        if data is None:
            return _answer(wire.Problem(code="not_found", message="There is no such file."), 404)
        response = web.StreamResponse()
        response.content_length = len(data)
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        if self.files_wait is not None:
            await self.files_wait.wait()
        await response.write(data[len(data) // 2 :])
        return response

    def _register(self, node: str, body: bytes) -> Any:
        if self.refuse_register is not None:
            status, code, message = self.refuse_register
            return _answer(wire.Problem(code=code, message=message), status)
        asked = msgspec.msgpack.decode(body, type=wire.Register)
        self.asked_in.append(asked.protocol)
        if asked.protocol not in self.speaks:
            return _answer(wire.Problem(code="protocol", message="Another protocol."), 409)
        self.registered.append((node, asked))
        return wire.Registered(
            node=1, name=node, lease_ttl_s=self.ttl_s, heartbeat_interval_s=10, drain_deadline_s=5,
            stale_order_age_s=self.stale_order_age_s, stall_s=30, now_us=time.time_ns() // 1000,
            desired=self.desired(node), registration=len(self.registered),
        )  # fmt: skip

    def _heartbeat(self, node: str, body: bytes) -> Any:
        beat = msgspec.msgpack.decode(body, type=wire.Heartbeat)
        self.beats.append((node, beat))
        self.reports += [(node, report) for report in beat.reports]
        status = self.status.get(node, "ok")
        newer = self.versions.get(node, 0) > beat.have_version
        return wire.HeartbeatAnswer(
            status=status,  # type: ignore[arg-type]
            expires_in_s=self.ttl_s,
            next_beat_s=self.next_beat_s,
            now_us=time.time_ns() // 1000,
            desired=self.desired(node) if newer else None,
        )

    def _checkpoint(self, node: str, body: bytes) -> Any:
        asked = msgspec.msgpack.decode(body, type=wire.CheckpointRequest)
        run = self.runs[asked.portfolio]
        return wire.CheckpointAnswer(
            epoch=run.epoch, revision=run.revision, state_revision=run.state_revision,
            last_seq=run.last_seq, state_seq=run.state_seq, state=run.state,
        )  # fmt: skip

    def _commit(self, node: str, body: bytes) -> Any:
        self.bodies.append(body)
        asked = msgspec.msgpack.decode(body, type=wire.CommitRequest)
        results = [self._commit_one(node, commit) for commit in asked.commits]
        if self.lose_release_answers > 0 and any(c.release for c in asked.commits):
            self.lose_release_answers -= 1
            return _answer(wire.Problem(code="unavailable", message="lost"), 500)
        return wire.CommitAnswers(results=results)

    def _is_unreleased(self, commit: wire.Commit) -> bool:
        paused_at = commit.to_seq if self.paused_at is None else self.paused_at
        return commit.to_seq > max(commit.from_seq, paused_at)

    def _commit_one(self, node: str, commit: wire.Commit) -> wire.CommitResult:
        run = self.runs[commit.portfolio]
        answer = "ok"
        if self.reject_next:
            self.reject_next, answer = False, "rejected"
        elif commit.batch == run.batch:
            answer = "ok" if commit.release is None else self.release_answer
        elif commit.epoch < run.epoch or node != run.node:
            answer = "fenced"
        elif commit.epoch > run.epoch:
            answer = "ahead"
        elif commit.from_seq != run.last_seq or self._is_unreleased(commit):
            answer = "conflict"
        else:
            run.last_seq, run.batch = commit.to_seq, commit.batch
            if commit.state is not None:
                run.state, run.state_seq = commit.state, commit.to_seq
                run.state_revision = run.revision
            run.commits.append(commit)
            run.taken_at_s.append(time.monotonic())
            if commit.release is not None:
                answer = self.release_answer
        return wire.CommitResult(
            portfolio=commit.portfolio,
            answer=answer,  # type: ignore[arg-type]
            version=self.versions.get(node, 0) if answer == "ok" else 0,
        )

    def _log(self, node: str, body: bytes) -> Any:
        asked = msgspec.msgpack.decode(body, type=wire.LogRequest)
        self.log_lines += [
            (node, stream.portfolio, stream.epoch, line.text)
            for stream in asked.streams
            for line in stream.lines
        ]
        return wire.LogAnswer(written=sum(len(stream.lines) for stream in asked.streams))

    def _goodbye(self, node: str, body: bytes) -> Any:
        self.goodbyes.append(node)
        return wire.HeartbeatAnswer(status="ok")

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        if not self.socket_open:
            raise web.HTTPServiceUnavailable
        node = request.headers["Authorization"].removeprefix("Bearer ")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        hello = await socket.receive()
        assert hello.type is WSMsgType.BINARY
        self.sockets[node] = socket
        await socket.send_bytes(wire.encode(self.desired(node)))
        async for _ in socket:
            pass
        self.sockets.pop(node, None)
        return socket


def _answer(body: msgspec.Struct, status: int = 200) -> web.Response:
    return web.Response(body=wire.encode(body), status=status, content_type="application/msgpack")
