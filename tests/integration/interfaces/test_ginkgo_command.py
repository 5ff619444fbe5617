"""The command `ginkgo` against a real web server: verbs, names, refusals, and what it needs."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ginkgo_cli.__main__ import run
from ginkgo_cli.access import Access, find_access
from ginkgo_cli.client import Client, Failed
from ginkgo_cli.context import Context
from ginkgo_cli.handoff_verbs import _wait_until_running
from ginkgo_cli.verbs import main
from portfolios.models import Portfolio
from scheduling.db.transaction import execute
from scheduling.enact.pin import pin
from scheduling.models import Event, Handoff, Node
from scheduling.operations import cordon
from scheduling.operations.tokens import issue_api_token
from scheduling.permissions import Role
from tests.support.api_client import make_user
from tests.support.factories import make_node, make_portfolio, make_running_portfolio

ROOT = Path(__file__).parents[3]
Said = Callable[..., str]


@pytest.fixture
def server(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A web server with two nodes and two portfolios, known to the command."""
    make_running_portfolio("canary-1", make_node("node-1"), events=3)
    make_running_portfolio("canary-2", make_node("node-2"), events=3)
    token = issue_api_token(make_user("olive", Role.OPERATOR), actor="cast")
    monkeypatch.setenv("GINKGO_SERVER", live_server.url)
    monkeypatch.setenv("GINKGO_TOKEN", token)
    return str(live_server.url)


@pytest.fixture
def said(server: str, capsys: pytest.CaptureFixture[str]) -> Said:
    """Return a function that runs one verb and returns what it prints."""

    def run_verb(*argv: str) -> str:
        assert main(argv) == 0
        return capsys.readouterr().out.strip()

    return run_verb


def test_read_commands_show_lists_and_single_objects(said: Said) -> None:
    status = said("status")
    assert "node-1  alive" in status
    assert "canary-2" in status
    assert json.loads(said("portfolios", "--json"))[0]["name"] == "canary-1"
    assert "canary-1" in said("node", "node-1")
    assert "strategy   canary" in said("portfolio", "canary-1")
    assert "place" in said("handoffs", "--last", "1", "--portfolio", "canary-1")
    assert "node_registered" in said("events", "--kind", "node_registered")
    assert said("alerts") == "No alert is open."
    assert said("orders", "canary-1") == "No order was found."
    assert said("log", "canary-1") == "canary-1 printed nothing."


def test_beginning_of_a_name_is_enough_if_only_one_node_or_portfolio_has_it(said: Said) -> None:
    make_node("spare")
    assert said("cordon", "sp", "--reason", "kernel").startswith("spare is cordoned")
    assert said("uncordon", "spare") == "spare is no longer cordoned."
    with pytest.raises(Failed, match=r"^can could be canary-1 or canary-2; write more of it\.$"):
        main(["portfolio", "can"])
    with pytest.raises(Failed, match=r"^There is no portfolio canray-1\. Did you mean canary-1"):
        main(["stop", "canray-1"])
    with pytest.raises(Failed, match=r"^There is no node x\. `ginkgo nodes` lists them\.$"):
        main(["node", "x"])


def test_a_move_is_requested_by_the_user_of_the_token_and_waited_for(said: Said) -> None:
    sentence = said("migrate", "canary-1", "--to", "node-2", "--reason", "test")
    assert sentence.startswith("migrate of canary-1 (node-1 → node-2): preparing [")
    assert Event.objects.filter(kind="handoff_requested", actor="olive").exists()
    with pytest.raises(Failed, match=r"is still draining after 0\.1 s; it continues\.$"):
        main(["stop", "canary-2", "--wait", "0.1"])
    with pytest.raises(Failed, match="canary-1") as refused:
        main(["start", "canary-1"])
    assert refused.value.problem["code"]


def test_several_portfolios_move_with_one_request_and_refused_ones_are_named(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_node("node-3")
    with pytest.raises(Failed, match=r"^1 of 2 did not move: canary-2\.$"):
        main(["migrate", "canary-1", "canary-2", "--to", "node-2", "--reason", "rack"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("migrate of canary-1 (node-1 → node-2): preparing [")
    assert lines[1] == "canary-2 cannot move to node-2: it already runs on node-2."


def test_several_moves_are_waited_for_until_one_deadline_and_each_outcome_is_shown(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    third = make_node("node-3")
    for name in ("canary-3", "canary-4", "canary-5"):
        make_running_portfolio(name, third)
    clock = [100.0]
    asked = []
    get = Client.get

    def pass_time(seconds: float) -> None:
        clock[0] += seconds
        Handoff.objects.filter(portfolio__name="canary-3", kind="migrate").update(
            state="failed", error="the disk is full"
        )

    def unreliable(client: Client, path: str, **query: Any) -> Any:
        asked.append(path)
        document = get(client, path, **query)
        if path.startswith("handoffs/") and document["portfolio"] == "canary-4":
            raise Failed("The server is away.")
        return document

    fake = Namespace(monotonic=lambda: clock[0], sleep=pass_time)
    monkeypatch.setattr("ginkgo_cli.handoff_verbs.time", fake)
    monkeypatch.setattr(Client, "get", unreliable)
    names = ("canary-2", "canary-3", "canary-5", "canary-4")
    # Names may follow an option.
    with pytest.raises(Failed) as failed:
        main(["migrate", "canary-1", "--to", "node-2", "--wait", "1", *names])
    assert str(failed.value) == (
        "2 of 5 did not move: canary-2, canary-3. Not done after 1 s, and continuing: canary-1, "
        "canary-5, canary-4. The server is away."
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" [")[0] for line in lines] == [
        "migrate of canary-1 (node-1 → node-2): preparing",
        "canary-2 cannot move to node-2: it already runs on node-2.",
        "migrate of canary-3 (node-3 → node-2): failed",
        "migrate of canary-5 (node-3 → node-2): preparing",
        "migrate of canary-4 (node-3 → node-2): preparing",
    ]
    assert lines[2].endswith("]: the disk is full")
    assert clock[0] < 101.4  # one deadline for all
    assert asked.count("portfolios/") == 1  # however many names


def _request(caller: socket.socket) -> bytes:
    """Return one whole request."""
    found = b""
    while True:
        found += caller.recv(65_536)
        head, ended, body = found.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if ended and len(body) >= (int(length[1]) if length else 0):
            return found


@contextmanager
def breaking(server: str, breaks: int) -> Iterator[str]:
    """Yield the address of a proxy that cuts so many connections after the server answered."""
    host, port = server.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for number in count():
            try:
                caller, _ = listener.accept()
            except OSError:
                return  # closed: the test is over
            with caller, socket.create_connection((host, int(port))) as behind:
                behind.sendall(_request(caller))
                answer = b"".join(iter(lambda: behind.recv(65_536), b""))
                if number >= breaks:
                    caller.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_an_action_whose_answer_was_lost_is_repeated_and_acts_once(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(find_access())
    monkeypatch.setattr("ginkgo_cli.client.FIRST_WAIT_S", 0.01)
    with breaking(server, 2) as broken:
        away = Client(dataclasses.replace(client.access, server=broken))
        document = away.post("portfolios/canary-1/reload/", reason="test")
    assert document["kind"] == "reload"
    assert Handoff.objects.filter(kind="reload").count() == 1
    said_twice = capsys.readouterr().err.splitlines()
    assert len(said_twice) == 2
    assert said_twice[0].endswith("The request is repeated, and acts once.")
    with breaking(server, 1) as broken, pytest.raises(Failed, match="does not answer"):
        Client(dataclasses.replace(client.access, server=broken)).get("nodes/")


def test_an_action_that_was_never_answered_says_that_it_may_have_acted(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ginkgo_cli.client.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("ginkgo_cli.client.REPEAT_FOR_S", 0.0)
    with breaking(server, 1) as broken, pytest.raises(Failed, match="acted is not known"):
        Client(dataclasses.replace(find_access(), server=broken)).post("schedule/unfreeze/")


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """Yield the address of a server that gives one of these answers to each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                caller, _ = listener.accept()
                with caller:
                    _request(caller)
                    caller.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_request_whose_error_answer_is_incomplete_is_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ginkgo_cli.client.FIRST_WAIT_S", 0.01)
    cut = b'HTTP/1.1 409 Conflict\r\nContent-Length: 99\r\n\r\n{"detail":'
    whole = b'HTTP/1.1 409 Conflict\r\nContent-Length: 20\r\n\r\n{"detail": "It is."}'
    with answering(cut) as server, pytest.raises(Failed, match="answered 409, and its answer was"):
        Client(Access(server, "token")).get("nodes/")
    with answering(cut, whole) as server, pytest.raises(Failed, match=r"^It is\.$"):
        Client(Access(server, "token")).post("halt/")
    assert "The request is repeated, and acts once." in capsys.readouterr().err


def test_a_redirect_is_not_followed() -> None:
    """A POST would become a GET, which answers 200 and halts nothing."""
    moved = b"HTTP/1.1 301 Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as other:
        to = f"http://127.0.0.1:{other.getsockname()[1]}/api/halt/"
        refused = pytest.raises(Failed, match=f"redirects to {to}")
        with answering(moved % to.encode()) as server, refused:
            Client(Access(server, "token")).post("halt/")
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()


RAW = "failed: \x1b[2Jdone\u202e"
RAW_PROBLEM = (409, {"detail": RAW, "code": RAW})
RAW_HANDOFF = {"id": 1, "kind": RAW, "portfolio": RAW, "state": "draining", "error": RAW}
RAW_HANDOFF |= {"source_node": RAW, "target_node": RAW}
RAW_END = (200, {**RAW_HANDOFF, "state": RAW})


@pytest.mark.parametrize(
    ("argv", "answers"),
    [
        ("unfreeze", [RAW_PROBLEM]),
        ("unfreeze --json", [RAW_PROBLEM]),
        ("unfreeze", [(503, {"detail": RAW}), RAW_PROBLEM]),
        ("completion node", [(200, {"results": [{"name": RAW}]})]),
        ("stop p --wait 9", [(200, {"results": [{"name": "p"}]}), (200, RAW_HANDOFF), RAW_END]),
    ],
)
def test_control_characters_from_nodes_and_strategies_never_reach_the_terminal(
    argv: str, answers: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ginkgo_cli.client.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bodies = [(status, json.dumps(document).encode()) for status, document in answers]
    answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s"
    with answering(*(answer % (status, len(body), body) for status, body in bodies)) as server:
        monkeypatch.setenv("GINKGO_SERVER", server)
        monkeypatch.setenv("GINKGO_TOKEN", "token")
        monkeypatch.setattr(sys, "argv", ["ginkgo", *argv.split()])
        assert run() == int("completion" not in argv)
    shown = "".join(capsys.readouterr()).replace("\r\x1b[K", "")  # that of the status line
    assert "[2Jdone" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


def test_json_output_escapes_control_characters_and_stays_valid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = {"sentence": "\x9b2J"}
    Context(Client(Access("http://127.0.0.1:9", "token")), Namespace(json=True)).show(document, "")
    shown = capsys.readouterr().out
    assert (json.loads(shown), "\x9b" in shown) == (document, False)


def test_drain_command_plans_and_drains(said: Said) -> None:
    node, portfolio = Node.objects.get(name="node-1"), Portfolio.objects.get(name="canary-1")
    execute(pin(portfolio.pk, node.pk, actor="olive", reason=""))
    plan = said("drain", "node-1", "--plan")
    assert "canary-1 → node-2" in plan
    assert plan.splitlines()[1].endswith("; its pin ends")
    assert not Node.objects.filter(draining=True).exists()
    assert said("drain", "node-1") == "node-1 is draining: 1 to hand off."
    late = r"^node-1 still runs canary-1 after 0\.1 s; it is still draining"
    with pytest.raises(Failed, match=late):
        main(["drain", "node-1", "--wait", "0.1"])
    assert "no longer draining" in said("undrain", "node-1")


def test_halt_all_asks_first_and_names_the_number(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    with pytest.raises(Failed, match="Nothing was halted"):
        main(["halt-all"])
    monkeypatch.setattr("builtins.input", lambda _: "halt 2")
    assert "2 were running" in said("halt-all", "--reason", "test")
    assert said("undo-halt") == "Started: canary-1, canary-2."


def test_command_runs_without_installed_packages_and_fails_with_a_sentence(
    server: str, tmp_path: Path
) -> None:
    def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # -S: without any installed package.
        command = [sys.executable, "-S", "-m", "ginkgo_cli", *argv]
        given = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, capture_output=True, text=True, env=given | environment, timeout=60
        )

    token = tmp_path / "token"
    token.write_text("wrong")
    refused = run("status", GINKGO_SERVER=server, GINKGO_TOKEN_FILE=str(token))
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    away = run("status", GINKGO_SERVER="http://127.0.0.1:9", GINKGO_TOKEN_FILE=str(token))
    assert (away.returncode, "does not answer" in away.stderr) == (1, True)
    assert run("migrate").returncode == 2
    script = run("completion", "bash").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_empty_names_and_invalid_options_are_usage_errors(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in (
        ("stop", ""),
        ("drain", " "),
        ("migrate", "canary-1", "--to", ""),
        ("events", "--node", ""),
        ("node", "\udcff"),
        ("nodes", "--no-such"),
        ("orders", "canary-1", "--last", "0"),
        ("stop", "canary-1", "--wait", "nan"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2, argv
    assert "is empty; leave it out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["statsu"])
    assert "no verb 'statsu'; did you mean status" in capsys.readouterr().err
    assert not Handoff.objects.exclude(kind__in=("place", "migrate")).exists()


def test_start_without_a_place_is_pending_and_a_wait_for_it_can_time_out(said: Said) -> None:
    make_portfolio("waits", desired_state="stopped")
    for node in Node.objects.all():
        cordon(node.name, actor="cast")
    assert "waits is pending" in said("start", "waits")
    said("stop", "waits")
    with pytest.raises(Failed, match=r"^waits is still pending after 0\.1 s: "):
        main(["start", "waits", "--wait", "0.1"])


def test_timeout_of_a_wait_for_a_start_is_a_whole_sentence_without_a_reason_too() -> None:
    pending = json.dumps({"run": {"phase": "pending", "reason": ""}}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(pending), pending)
    told = r"^p is still pending after 1e-09 s: it continues; see `ginkgo portfolio p`\.$"
    with answering(answer) as server, pytest.raises(Failed, match=told):
        _wait_until_running(Context(Client(Access(server, "token")), Namespace(wait=1e-9)), "p")


def test_a_server_that_is_not_ginkgo_is_named() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    other = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"name":"x"}'
    with answering(page) as server, pytest.raises(Failed, match="does not answer as Ginkgo does"):
        Client(Access(server, "token")).get("nodes/")
    with answering(other) as server, pytest.raises(Failed, match="does not answer as Ginkgo does"):
        list(Client(Access(server, "token")).rows("nodes/"))


def test_malformed_server_address_is_refused_before_a_request_is_sent() -> None:
    malformed = "ginkgo ftp://h file:///etc/passwd http:// http://h:x http://[::1 http://h?a"
    for server in malformed.split():
        with pytest.raises(Failed, match="is not the address of a server"):
            find_access(server=server, environment={"GINKGO_TOKEN": "abc"})


def test_scheme_of_a_server_address_is_lower_case_as_in_the_requests_to_it() -> None:
    found = find_access(server="HTTPS://h/Ginkgo/", environment={"GINKGO_TOKEN": "abc"})
    assert found.server == "https://h/Ginkgo"


def test_malformed_token_is_refused_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\x00")
    with pytest.raises(Failed, match="is not a text file"):
        find_access(server="http://h", token_file=str(tmp_path / "token"), environment={})
    for token in ("two lines\nhere", "né"):
        with pytest.raises(Failed, match="another character that no token holds") as refused:
            find_access(server="http://h", environment={"GINKGO_TOKEN": token})
        assert token not in str(refused.value)


def test_access_file_gives_server_and_token_and_a_missing_token_is_explained(
    tmp_path: Path,
) -> None:
    home = {"HOME": str(tmp_path), "GINKGO_HOME": str(tmp_path)}
    with pytest.raises(Failed, match="There is no token"):
        find_access(server="http://127.0.0.1:1", environment=home)
    (tmp_path / "access.json").write_text('{"url": "http://127.0.0.1:1/", "token": "abc"}')
    found = find_access(environment=home)
    assert (found.server, found.token) == ("http://127.0.0.1:1", "abc")
    assert "abc" not in repr(found)
    (tmp_path / "access.json").write_text("{}")
    with pytest.raises(Failed, match="holds no address and token"):
        find_access(environment=home)


def test_access_file_is_searched_elsewhere_if_the_home_cannot_be_read(tmp_path: Path) -> None:
    config = tmp_path / ".config" / "ginkgo"
    config.mkdir(parents=True)
    (config / "access.json").write_text('{"url": "http://127.0.0.1:1/", "token": "abc"}')
    # Stands for a folder of another user, into which root, as which tests may run, could look.
    environment = {"HOME": str(tmp_path), "GINKGO_HOME": str(tmp_path / ("x" * 300))}
    assert find_access(environment=environment).token == "abc"


@pytest.mark.parametrize(
    ("output", "code", "told"),
    [
        (">/dev/full", 1, "The output cannot be written: No space left on device.\n"),
        (">&-", 0, ""),
        ("| true", 0, ""),
    ],
)
def test_command_whose_output_cannot_be_written_ends_with_a_sentence(
    output: str, code: int, told: str
) -> None:
    line = f"{sys.executable} -m ginkgo_cli completion bash {output}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (code, told)
