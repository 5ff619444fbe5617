"""Sessions: limits are set behind a pooler too, and a pooler that loses them is refused."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ginkgo_site import sessions
from ginkgo_site.sessions import (
    DatabaseUnusable,
    application_name,
    begin_session,
    check_refusal,
    check_version,
    find_unusable,
    limits_in,
    name_option,
)

AT = ("db", "6432")
LIMITS = {"statement_timeout": "30s", "lock_timeout": "5s"}


@pytest.fixture(autouse=True)
def no_known_poolers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_session_poolers", set())


class Pooler:
    """Answers for server processes: one for each session, or one for each transaction."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.asked: list[sessions.Question] = []
        self.in_transaction = False

    async def answer(self, question: sessions.Question) -> tuple[int, ...]:
        self.asked.append(question)
        if question.session == "own":
            return (12 if self.in_transaction and self.mode == "transaction" else 11,)
        if self.mode == "statement":
            raise psycopg.errors.ProtocolViolation("transaction blocks not allowed")
        self.in_transaction = question.sql != "ROLLBACK"
        return (11 if self.mode == "transaction" else 13,)

    def begin(self, named_pid: int) -> None:
        asyncio.run(begin_session(self.answer, LIMITS, named_pid, AT))


def test_a_session_without_a_pooler_gets_its_limits_in_one_query() -> None:
    server = Pooler("none")
    server.begin(named_pid=11)
    assert [q.parameters for q in server.asked] == [
        ["statement_timeout", "30s", "lock_timeout", "5s"]
    ]
    assert server.asked[0].sql.count("set_config(%s, %s, false)") == 2


def test_a_pooler_in_session_mode_is_tried_once_and_then_known() -> None:
    pooler = Pooler("session")
    pooler.begin(named_pid=999_999_999)
    tried = len(pooler.asked)
    assert any(question.session == "second" for question in pooler.asked)
    assert not pooler.in_transaction
    pooler.begin(named_pid=999_999_999)
    assert len(pooler.asked) == tried + 1


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_in_another_mode_is_refused_with_what_helps(mode: str) -> None:
    with pytest.raises(DatabaseUnusable, match=f"at db:6432 is in {mode} mode.*pool_mode = sess"):
        Pooler(mode).begin(named_pid=999_999_999)


def test_error_of_a_pooler_that_refuses_startup_options_names_it_and_the_setting() -> None:
    refusal = psycopg.OperationalError(
        "FATAL:  unsupported startup parameter in options: statement_timeout"
    )
    with pytest.raises(DatabaseUnusable, match=r"PgBouncer at db:6432 refuses.*ignore_startup_par"):
        check_refusal(refusal, {"host": "db", "port": "6432"})
    check_refusal(psycopg.OperationalError("connection refused"), {})


def test_a_server_that_is_too_old_is_refused() -> None:
    with pytest.raises(DatabaseUnusable, match=r"is PostgreSQL 14\.9.*needs 15 to 18\. Upgrade"):
        check_version(140_009, AT)
    for version in (150_000, 180_001, 190_000, 0):  # 0: unknown
        check_version(version, AT)


def test_session_limits_are_read_from_the_connection_options() -> None:
    options = "-c search_path=x -c lock_timeout=1s -c statement_timeout=30s -c lock_timeout=5s"
    assert limits_in({"options": options}) == LIMITS
    assert limits_in({}) == {}


def test_application_name_of_a_connection_names_its_process() -> None:
    assert application_name("watcher", "db-host", 4711) == "ginkgo watcher db-host 4711"
    long = application_name("command", "h" * 100, 4_194_304)
    assert len(long) == 63
    assert long.endswith("h 4194304")
    assert name_option({"application_name": "ours"}) == {}
    assert name_option({"application_name": "ginkgo"})["application_name"].startswith("ginkgo ")


def test_unusable_database_error_is_found_behind_an_error_of_django() -> None:
    cause = DatabaseUnusable("no")
    wrapped = RuntimeError("x")
    wrapped.__cause__ = cause
    assert find_unusable(wrapped) is cause
    assert find_unusable(RuntimeError("x")) is None
