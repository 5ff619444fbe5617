"""`ginkgo` waits, follows and watches through a restart of the server."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ginkgo_cli import acting_verbs, context, handoff_verbs, reading_verbs
from ginkgo_cli.client import Failed, Unanswered
from ginkgo_cli.context import Context

AWAY = Unanswered("http://h does not answer: Connection refused.", was_sent=False)


class Server:
    """Answers each POST with a document, and each GET with the next of `answers`."""

    def __init__(self, posted: dict[str, Any], answers: list[dict[str, Any] | Failed]) -> None:
        self.posted, self.answers = posted, answers

    def rows(self, path: str) -> Iterator[dict[str, Any]]:
        yield {"name": "one"}

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        return self.posted

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        if not self.answers:
            raise KeyboardInterrupt
        answer = self.answers.pop(0)
        if isinstance(answer, Failed):
            raise answer
        return answer


def given(wait: float) -> Namespace:
    return Namespace(
        json=False, portfolio="one", node="one", reason="", wait=wait, plan=False, watch=True,
        make_room=False, until_return=False, full=False, follow=True,
    )  # fmt: skip


def handoff(state: str) -> dict[str, Any]:
    return {
        "id": 7, "kind": "stop", "portfolio": "one", "state": state, "source_node": "n",
        "target_node": None, "error": "", "pause_ms": None,
    }  # fmt: skip


def verification(state: str) -> dict[str, Any]:
    return {"portfolio": "one", "state": state, "sentence": state}


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "POLL_S", 0)
    monkeypatch.setattr(acting_verbs, "POLL_S", 0)
    monkeypatch.setattr(handoff_verbs, "POLL_S", 0)
    monkeypatch.setattr(reading_verbs, "WATCH_S", 0)


@pytest.mark.parametrize(
    ("verb", "first", "last", "said"),
    [
        (acting_verbs.drain, {"portfolios": ["p"]}, {"portfolios": []}, "one is drained"),
        (acting_verbs.verify, verification("running"), verification("identical"), "identical"),
        (handoff_verbs.stop, handoff("draining"), handoff("done"), "done"),
        (handoff_verbs.start, {"handoff": None}, {"run": {"phase": "running", "node": "n"}},
         "one runs on n."),
    ],
)  # fmt: skip
def test_a_wait_goes_on_through_a_restart_of_the_server(
    verb: Callable[[Context], None], first: dict[str, Any], last: dict[str, Any], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server: Any = Server(dict(first), [AWAY, AWAY, last])
    verb(Context(server, given(wait=60)))
    assert said in capsys.readouterr().out


def test_wait_ends_at_its_time_limit_although_the_server_does_not_return() -> None:
    server: Any = Server({}, [AWAY, AWAY])
    with pytest.raises(Failed, match="does not answer"):
        Context(server, given(wait=1)).poll("nodes/one/", time.monotonic())
    assert server.answers == [AWAY]


def test_a_watch_and_a_followed_log_go_on_through_a_restart_of_the_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = {
        "no": 1, "at": "2026-01-01T00:00:00Z", "node": "n", "revision": 1, "text": "hello",
        "lost": 0,
    }  # fmt: skip
    empty = {"last": 0, "results": []}
    server: Any = Server({}, [empty, AWAY, AWAY, {"last": 1, "results": [line]}])
    with pytest.raises(KeyboardInterrupt):
        reading_verbs.log(Context(server, given(wait=0)))
    told = capsys.readouterr()
    assert told.out.endswith("hello\n")
    assert told.err.count("does not answer: Connection refused. It is asked again") == 1
    server = Server({}, [empty, AWAY, Failed("The token is revoked.")])
    with pytest.raises(Failed, match="The token is revoked"):
        reading_verbs.log(Context(server, given(wait=0)))
