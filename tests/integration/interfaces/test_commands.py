"""The command line: what it prints, with which code it ends, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from io import StringIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import django.db
import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command, load_command_class

from ginkgo_site.env import CHECKOUT
from portfolios.models import FeedRow, FeedSegment, Order, Portfolio, Revision
from scheduling import operations
from scheduling.management.base import Failed
from scheduling.management.handoff_wait import wait_for
from scheduling.models import ApiToken, Control, Event, Handoff, Node, NodeToken, Run
from scheduling.models.tokens import hash_token
from scheduling.operations.registry import fleet_actions
from tests.support.commands import Terminal, said, told
from tests.support.factories import make_node, make_portfolio, make_running_portfolio
from tests.support.patches import raising

pytestmark = pytest.mark.django_db


def refused(command: str, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Return the sentence and the JSON of a command that must not end well."""
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(command, *arguments, "--json", stdout=out)
    assert caught.value.returncode == 1
    document: dict[str, Any] = json.loads(out.getvalue())
    assert document["message"] == str(caught.value)
    return str(caught.value), document


MISSING = 'column "x" does not exist'


@pytest.mark.parametrize("error_of_django", [django.db.ProgrammingError(MISSING), None])
def test_a_command_on_tables_of_an_older_release_says_that_they_must_be_migrated(
    monkeypatch: pytest.MonkeyPatch, error_of_django: Exception | None
) -> None:
    error: Exception = psycopg.errors.UndefinedColumn(MISSING)
    if error_of_django:
        error_of_django.__cause__ = error
    monkeypatch.setattr(operations, "unfreeze", raising(error_of_django or error))
    assert refused("freeze", "--undo") == (
        'The database lacks a table or a column: column "x" does not exist. '
        "Run manage.py migrate first.",
        ANY,
    )


def test_a_command_without_a_database_ends_with_one_sentence() -> None:
    """As a person would run it, in a process of its own."""
    nowhere = {"DATABASE_URL": "postgresql://ginkgo@127.0.0.1:1/ginkgo"}
    done = subprocess.run(
        [sys.executable, "manage.py", "cluster_status", "--json"], cwd=CHECKOUT,
        env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "could not be read" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["code"] == "unavailable"


def exit_code(patch: pytest.MonkeyPatch, name: str, *arguments: str) -> Any:
    """Return the exit code of a command that runs as in a process of its own, but here."""
    patch.setattr(django.db.connections, "close_all", lambda: None)  # the test goes on
    with pytest.raises(SystemExit) as ended:
        load_command_class("scheduling", name).run_from_argv(["manage.py", name, *arguments])
    return ended.value.code


def test_an_unknown_feed_in_the_environment_ends_a_command_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GINKGO_FEED", "ticker-tape")
    assert exit_code(monkeypatch, "create_portfolio", "x", "--strategy", "canary") == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "ticker-tape" in sentence


def test_an_invalid_command_line_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, "migrate_portfolio") == 2
    assert "NAME" in capsys.readouterr().err


# --- portfolios -----------------------------------------------------------------------------------


def test_create_portfolio_prints_what_was_made() -> None:
    document = told(
        "create_portfolio", "ibm-sma", "--strategy", "sma_cross", "--symbols", "IBM,HPQ",
        "--config", '{"fast": 3, "slow": 8}', "--weight", "2", "--priority", "4",
        "--selector", "zone=a", "--spread-group", "sma", "--spread-hard", "--catch-up", "full",
        "--cash", "5000.50", "--note", "first try",
    )  # fmt: skip
    assert document == document | {
        "name": "ibm-sma", "symbols": ["IBM", "HPQ"], "config": {"fast": 3, "slow": 8},
        "weight": 2, "priority": 4, "selector": {"zone": "a"}, "spread_group": "sma",
        "spread_hard": True, "catch_up": "full", "starting_cash": "5000.5000",
    }  # fmt: skip
    assert Event.objects.get(kind="portfolio_created").actor.startswith("cli:")


def test_create_portfolio_command_refuses_an_invalid_configuration_in_a_sentence() -> None:
    given = ("create_portfolio", "x", "--strategy", "sma_cross", "--symbols", "IBM", "--config")
    sentence, document = refused(*given, '{"fats": 3}')
    assert "fats" in sentence
    assert document["code"] == "invalid"
    assert document["errors"]
    for no_object in ("{", "[1]"):
        with pytest.raises(CommandError, match="config"):
            said(*given, no_object)
    assert not Portfolio.objects.exists()


def test_migrate_portfolio_prints_and_describes_the_handoff() -> None:
    first, _ = make_node("node-1"), make_node("node-2")
    for name in ("canary-1", "canary-2"):
        make_running_portfolio(name, first)
    handoff = told("migrate_portfolio", "canary-1", "--to", "node-2", "--reason", "why not")
    assert handoff == handoff | {
        "id": Handoff.objects.latest("id").pk, "kind": "migrate", "target_node": "node-2",
        "reason": "why not",
    }  # fmt: skip
    assert handoff["requested_by"].startswith("cli:")
    line = said("migrate_portfolio", "canary-2")
    assert "migrate of canary-2 (node-1 → node-2): preparing" in line


def test_migrate_portfolio_moves_several_with_one_request() -> None:
    first, _ = make_node("node-1"), make_node("node-2")
    for name in ("canary-1", "canary-2"):
        make_running_portfolio(name, first)
    done = told("migrate_portfolio", "canary-1", "canary-2", "--to", "node-2")
    assert [row["handoff"]["target_node"] for row in done["results"]] == ["node-2", "node-2"]


def test_migrate_portfolio_waits_for_several_and_tells_the_outcome_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, _ = make_node("node-1"), make_node("node-2", capacity=4)
    names = ("canary-1", "canary-2", "canary-3", "canary-4", "canary-5")
    for name in names:
        make_running_portfolio(name, first)
    ends = {"canary-2": "failed", "canary-3": "done"}
    clock = [100.0]

    def pass_time(seconds: float) -> None:
        clock[0] += seconds
        for name, state in ends.items():
            Handoff.objects.filter(portfolio__name=name, kind="migrate").update(
                state=state, error="the disk is full"
            )

    fake = SimpleNamespace(monotonic=lambda: clock[0], sleep=pass_time)
    monkeypatch.setattr("scheduling.management.handoff_wait.time", fake)
    # A name may follow an option, and one that is repeated is no second portfolio.
    arguments = ("canary-1", "canary-2", "--to", "node-2", "--wait", "1", *names[2:], "canary-1")
    sentence, document = refused("migrate_portfolio", *arguments)
    assert sentence == (
        "2 of 5 did not move: canary-2, canary-5. Not done after 1 s, and continuing: canary-1, "
        "canary-4."
    )
    rows = document["results"]
    assert [(row["portfolio"], row["code"]) for row in rows] == [
        ("canary-1", "wait_timeout"), ("canary-2", "handoff_failed"), ("canary-3", None),
        ("canary-4", "wait_timeout"), ("canary-5", "node_full"),
    ]  # fmt: skip
    assert [row["handoff"]["state"] for row in rows[:3]] == ["preparing", "failed", "done"]
    assert "the disk is full" in rows[1]["sentence"]
    assert document["code"] == "not_moved"
    assert clock[0] < 101.1  # one deadline for all


def test_a_wait_timeout_fails_while_the_handoff_continues() -> None:
    first, _ = make_node("node-1"), make_node("node-2")
    make_running_portfolio("canary-1", first)
    sentence, document = refused("migrate_portfolio", "canary-1", "--to", "node-2", "--wait", "0.2")
    handoff = Handoff.objects.latest("id")
    assert (document["code"], document["handoff"]) == ("wait_timeout", handoff.pk)
    assert "continues" in sentence
    assert handoff.state == "preparing"


def test_a_handoff_that_is_not_done_is_a_failure() -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    handoff = Handoff.objects.get()
    Run.objects.update(phase="pending", node=None, incarnation=None)
    for state, words in (
        ("failed", "failed before its grant"),
        ("rolled_back", r"The portfolio is now pending\.$"),
        ("superseded", "was superseded: "),
    ):
        Handoff.objects.update(state=state, error="the disk is full")
        with pytest.raises(Failed, match=words) as caught:
            wait_for(handoff, 1)
        assert "the disk is full" in caught.value.message
        assert caught.value.code == f"handoff_{state}"


def test_an_invalid_wait_is_a_usage_error() -> None:
    for wait in ("0", "-3", "soon", "nan", "1e9"):
        with pytest.raises(CommandError, match="--wait"):
            said("migrate_portfolio", "canary-1", f"--wait={wait}")


def test_commands_unpin_reload_stop_and_start_portfolios() -> None:
    node = make_node("node-1")
    make_running_portfolio("canary-1", node)
    Run.objects.update(pinned_node=node.row)
    make_portfolio("idle", desired_state="stopped")
    assert told("unpin_portfolio", "canary-1")["pinned_node"] is None
    assert Event.objects.filter(kind="unpinned").latest("id").actor.startswith("cli:")
    assert told("reload_portfolio", "canary-1", "--reason", "leak")["kind"] == "reload"
    assert told("start_portfolio", "idle")["kind"] == "place"
    assert told("stop_portfolio", "canary-1")["kind"] == "stop"
    assert refused("stop_portfolio", "canary-1")[1]["code"] == "already_stopped"


def test_delete_releases_the_portfolio_and_frees_its_name() -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    make_portfolio("idle", desired_state="stopped")
    deleted = told("delete_portfolio", "canary-1", "--reason", "closed")
    assert (deleted["handoff"]["kind"], deleted["handoff"]["state"]) == ("stop", "draining")
    assert said("delete_portfolio", "idle") == "idle is deleted.\n"
    assert refused("delete_portfolio", "idle")[1]["code"] == "not_found"
    make_portfolio("idle")


def test_on_a_terminal_nothing_is_deleted_before_its_name_is_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_portfolio("idle", desired_state="stopped")
    for typed in ("", "yes", "idle2"):
        monkeypatch.setattr(sys, "stdin", Terminal(f"{typed}\n"))
        assert refused("delete_portfolio", "idle")[1]["code"] == "not_confirmed"
    monkeypatch.setattr(sys, "stdin", Terminal("idle\n"))
    assert told("delete_portfolio", "idle")["deleted"] is True


def test_start_without_room_says_that_the_portfolio_is_pending_with_and_without_wait() -> None:
    for name in ("idle", "other"):
        make_portfolio(name, desired_state="stopped")
    assert "pending" in said("start_portfolio", "idle")
    assert refused("start_portfolio", "idle")[1]["code"] == "already_running"
    sentence, document = refused("start_portfolio", "other", "--wait", "0.2")
    assert document["code"] == "wait_timeout"
    assert "pending" in sentence


def test_wait_for_the_start_of_a_portfolio_deleted_meanwhile_ends_with_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_portfolio("idle", desired_state="stopped")
    delete = partial(operations.delete_portfolio, "idle", actor="ann")
    fake = SimpleNamespace(monotonic=lambda: 100.0, sleep=lambda _: delete())
    monkeypatch.setattr("scheduling.management.handoff_wait.time", fake)
    assert refused("start_portfolio", "idle", "--wait", "5")[1]["code"] == "not_found"


# --- nodes and the fleet --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "flag"), [("drain_node", "draining"), ("cordon_node", "cordoned")]
)
def test_commands_drain_and_cordon_a_node_and_undo_both(command: str, flag: str) -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    assert told(command, "node-1", "--reason", "kernel")[flag] is True
    assert told(command, "node-1", "--undo")[flag] is False
    assert "node-1" in said(command, "node-1")
    assert refused(command, "nix")[1]["code"] == "not_found"


def test_drain_waits_until_the_node_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    make_node("node-2")
    sentence, problem = refused("drain_node", "node-1", "--wait", "0.1")
    assert problem["code"] == "wait_timeout"
    assert "still runs 1 portfolio after 0.1 s: canary-1; it is still draining." in sentence
    told_so = said("drain_node", "node-2", "--wait", "5").strip()
    assert told_so == "node-2 is drained: it runs nothing."
    node = Node.objects.get(name="node-2")

    def move(_seconds: float) -> None:
        Run.objects.update(node=node)

    ours = SimpleNamespace(sleep=move, monotonic=time.monotonic)
    monkeypatch.setattr("scheduling.management.handoff_wait.time", ours)
    assert "node-1 is drained" in said("drain_node", "node-1", "--wait", "5")


def test_rebalance_dry_run_changes_nothing() -> None:
    make_node("node-1")
    make_portfolio("canary-1")
    plan = told("rebalance", "--dry-run")
    assert [step["portfolio"] for step in plan["place"]] == ["canary-1"]
    assert "canary-1" in said("rebalance", "--dry-run")
    assert not Handoff.objects.exists()
    assert len(told("rebalance")["requested"]) == 1
    assert "Nothing to move" in said("rebalance")


def test_freeze_command_freezes_and_unfreezes_the_fleet() -> None:
    document = told("freeze", "--reason", "switch upgrade", "--by", "olive")
    assert document["frozen"] is True
    assert document["by"] == "olive"
    assert fleet_actions.FREEZE.done in said("freeze")
    assert told("freeze", "--undo")["frozen"] is False
    assert Control.objects.get().frozen_at is None


def test_cluster_status_shows_the_whole_fleet_and_an_empty_one() -> None:
    assert told("cluster_status")["nodes"] == []
    assert "head 0" in said("cluster_status")
    make_running_portfolio("canary-1", make_node("node-1"), events=2)
    make_portfolio("idle", desired_state="stopped")
    board = told("cluster_status")
    assert [node["name"] for node in board["nodes"]] == ["node-1"]
    assert [portfolio["name"] for portfolio in board["portfolios"]] == ["canary-1", "idle"]
    assert board["portfolios"][0]["run"]["node"] == "node-1"
    assert board["handoffs_recent"][0]["kind"] == "place"
    assert board["frozen"] is None
    operations.freeze(actor="olive", reason="switch [rack 2] upgrade [/x] :warning:")
    text = said("cluster_status")
    assert "olive: switch [rack 2] upgrade [/x] :warning:" in text
    for word in ("node-1", "alive", "1/5", "canary-1", "running", "stopped"):
        assert word in text


# --- tokens ---------------------------------------------------------------------------------------


def test_a_node_token_of_a_named_node_is_shown_once_and_kept_as_a_hash() -> None:
    document = told("create_node_token", "node-7")
    assert set(document) == {"name", "token"}
    assert NodeToken.objects.get().sha256 == hash_token(document["token"])
    assert Node.objects.get().name == "node-7"
    assert said("create_node_token", "node-7").strip() != document["token"]
    assert Node.objects.count() == 1
    assert NodeToken.objects.count() == 2
    assert Event.objects.filter(kind="node_token_created").count() == 2
    for name in ("not a slug", "", "x" * 81):
        assert refused("create_node_token", name)[1]["code"] == "invalid"
    assert Node.objects.count() == 1


def test_an_api_token_whose_lifetime_is_refused_makes_no_user_and_changes_no_role() -> None:
    given = ("create_api_token", "olive", "--days", "0", "--role", "operator")
    assert refused(*given, "--create")[1]["code"] == "invalid"
    assert not User.objects.filter(username="olive").exists()
    told("create_api_token", "olive", "--create", "--role", "viewer")
    assert refused(*given)[1]["code"] == "invalid"
    assert [group.name for group in User.objects.get().groups.all()] == ["viewer"]


def test_an_api_token_requires_an_existing_user() -> None:
    assert refused("create_api_token", "olive")[1]["code"] == "not_found"
    document = told("create_api_token", "olive", "--create", "--role", "viewer")
    assert set(document) == {"user", "token"}
    token = ApiToken.objects.get()
    assert token.sha256 == hash_token(document["token"])
    assert not token.user.has_usable_password()
    assert [group.name for group in token.user.groups.all()] == ["viewer"]
    told("create_api_token", "olive", "--role", "operator")
    assert [group.name for group in token.user.groups.all()] == ["operator"]


# --- the demo -------------------------------------------------------------------------------------


def test_the_demo_is_created_once_and_leaves_a_paused_feed_paused() -> None:
    document = told("seed_demo")
    assert document["created"] == [
        "canary-1", "canary-2", "canary-3", "tech-hold", "retail-hold", "ibm-sma", "ge-sma",
        "energy-revert", "bank-revert",
    ]  # fmt: skip
    assert FeedRow.objects.get().name == "replay"
    assert FeedSegment.objects.count() == 1
    operations.run_feed(0, actor="cast")
    assert told("seed_demo")["created"] == []
    assert FeedSegment.objects.latest("pk").rate == 0
    assert Portfolio.objects.count() == Revision.objects.count() == 9
    assert "already" in said("seed_demo")


def test_the_demo_spreads_its_canaries_one_on_each_node() -> None:
    for number in (1, 2, 3):
        make_node(f"node-{number}")
    said("seed_demo")
    plan = told("rebalance", "--dry-run")
    targets = {step["portfolio"]: step["target_node"] for step in plan["place"]}
    assert len(targets) == 9
    assert {targets[f"canary-{number}"] for number in (1, 2, 3)} == {"node-1", "node-2", "node-3"}
    assert sorted(load["after"] for load in plan["load"]) == [3.0, 3.0, 3.0]


def test_each_trader_of_the_demo_trades_within_five_minutes() -> None:
    daemon = make_node("node-1", capacity=20)
    said("seed_demo")
    for name in ("tech-hold", "retail-hold", "ibm-sma", "ge-sma", "energy-revert", "bank-revert"):
        operations.migrate(name, "node-1", actor="cast")
        daemon.prepare()
        # Five minutes at 100 events a second.
        assert daemon.commit(name, 30_000) == "ok", name
        orders = Order.objects.filter(portfolio__name=name)
        assert orders.filter(status="filled").exists(), name
        assert not orders.filter(status="refused").exists(), name
