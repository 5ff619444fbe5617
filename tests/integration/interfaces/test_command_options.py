"""Options of commands: none is ignored silently, and empty values are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from portfolios.models import Portfolio, Secret
from scheduling import operations
from scheduling.errors import Invalid
from scheduling.management.hidden_input import read_hidden
from scheduling.models import Control, Event, Handoff, RollOut
from scheduling.operations.fleet import MAX_RAISE
from tests.support.api_client import ApiClient, problem
from tests.support.commands import Terminal, said, told
from tests.support.factories import make_node, make_portfolio, make_running_portfolio

pytestmark = pytest.mark.django_db


def misused(*arguments: str) -> str:
    """Return the sentence of a command that must end as wrong usage."""
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    # In a process of its own, argparse ends with 2 itself; it raises a plain CommandError here.
    assert caught.value.returncode == 2 or str(caught.value).startswith("Error: argument")
    return str(caught.value)


# --- options without an effect --------------------------------------------------------------------


def test_options_of_one_portfolio_are_refused_for_a_file_of_many(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text(json.dumps({"name": "canary-1", "strategy": "canary"}))
    for option in (["--stopped"], ["--weight", "3"], ["--feed", "fx"], ["--wait", "5"]):
        told_about = misused("create_portfolio", "--file", str(file), *option)
        assert told_about == f"--file takes no {option[0]}."
    assert not Portfolio.objects.exists()
    said("create_portfolio", "--file", str(file))
    assert Portfolio.objects.get().desired_state == "running"


WITHOUT_EFFECT = (
    ("freeze --undo --failover", "--undo takes no --failover."),
    ("freeze --undo --reason over", "--undo takes no --reason."),
    ("halt_all --undo --expect 3", "--undo takes no --expect."),
    ("storm --by olive", "storm without --hold and --release takes no --by."),
    ("secret set a --reason new", "set takes no --reason."),
    ("secret list --new-key", "list takes no --new-key."),
    ("secret rotate --reason new", "rotate takes no --reason."),
    ("roll_out --stop 1 --at-a-time 5", "--stop takes no --at-a-time."),
    ("roll_out --back 1 --canary a", "--back takes no --canary."),
    ("roll_out --show 1 --reason x", "--show takes no --reason."),
    ("drain_node node-1 --undo --plan", "--undo takes no --plan"),
    ("drain_node node-1 --undo --make-room", "--undo takes no --make-room"),
    ("cordon_node node-1 --undo --reason done", "--undo takes no --reason"),
    ("alert_channel set ops --reason new", "set takes no --reason"),
    ("alert_channel list ops", "list takes no NAME"),
    ("secret list one", "list takes no NAME"),
    ("alert_channel set", "set needs the NAME of a channel"),
    ("alert_channel test", "test needs the NAME of a channel"),
    ("alert_channel remove", "remove needs the NAME of a channel"),
    ("secret set", "set needs a NAME"),
    ("create_portfolio", "NAME and --strategy, or --file"),
    ("create_portfolio a --file many.jsonl", "not both"),
    ("create_portfolio --strategy canary --file many.jsonl", "not both"),
    ("feed append fx rows.jsonl --number 1", "--source and --number together"),
)


def test_arguments_without_an_effect_or_without_each_other_are_wrong_usage() -> None:
    operations.freeze(actor="cast")
    for command, told_about in WITHOUT_EFFECT:
        assert told_about in misused(*command.split()), command
    assert Control.objects.get().frozen_at is not None
    assert not Secret.objects.exists()


GIVEN_TWICE = (
    (["update_portfolio", "p", "--set", "fast=1", "--set", "fast=2"], "argument --set: fast"),
    (["update_portfolio", "p", "--selector", "zone=a", "--selector", "zone=b"],
     "argument --selector: zone"),
    (["create_portfolio", "p", "--strategy", "canary", "--selector", "zone=a",
      "--selector", "zone=b"], "argument --selector: zone"),
    (["backtest", "--strategy", "canary", "--config", "fast=1", "--config", "fast=2"],
     "argument --config: fast"),
)  # fmt: skip


def test_key_given_twice_in_one_option_is_wrong_usage() -> None:
    for command, told_about in GIVEN_TWICE:
        assert misused(*command) == f"Error: {told_about} is given twice; give it once"


def test_a_label_that_is_changed_twice_in_one_command_is_refused() -> None:
    node = make_node("n1")
    for changes in (["zone=a", "zone=b"], ["zone=a", "zone-"]):
        with pytest.raises(CommandError, match=r"^changes: zone is given twice; give it once\.$"):
            call_command("label_node", "n1", *changes)
    node.row.refresh_from_db()
    assert node.row.labels == {}


def test_tick_given_twice_for_one_instrument_is_refused() -> None:
    with pytest.raises(CommandError, match="'EURUSD:tick=1,tick=2' gives tick twice; give it once"):
        call_command("feed", "create", "fx", "--instrument", "EURUSD:tick=1,tick=2")


def test_json_may_stand_before_the_action_of_a_feed_and_after_it() -> None:
    assert json.loads(said("feed", "--json", "list")) == told("feed", "list")


# --- empty texts, as of an unset variable ---------------------------------------------------------


def test_what_if_option_with_an_empty_value_is_wrong_usage_and_moves_nothing() -> None:
    make_node("node-1", capacity=1)
    make_portfolio("waits")
    for option, empty in (("--lose", ""), ("--drain", " "), ("--add", ",")):
        assert "is empty; leave it out, or give a value" in misused("rebalance", option, empty)
    assert not Handoff.objects.exists()


def test_an_empty_python_version_withdraws_no_consent() -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    said("accept_python", "3.13", "canary-1")
    assert "is empty" in misused("accept_python", "", "--all")
    assert Event.objects.filter(kind="python_accepted").count() == 1
    assert "withdrawn for 1 portfolio" in said("accept_python", "3.13", "--all", "--undo")


def test_empty_option_of_roll_out_or_freeze_is_wrong_usage_and_not_left_out() -> None:
    assert "is empty" in misused("roll_out", "abcdef12", "--strategy", "")
    assert "is empty" in misused("roll_out", "abcdef12", "--canary", "")
    assert "is empty" in misused("roll_out", "abcdef12", "--portfolios", ",")
    assert "is empty" in misused("freeze", "--by", "")
    assert not RollOut.objects.exists()


# --- values ---------------------------------------------------------------------------------------


def test_raise_of_the_epoch_floor_by_more_than_its_limit_is_refused() -> None:
    before = make_running_portfolio("canary-1", make_node("node-1")).run.epoch
    for by in (0, MAX_RAISE + 1):
        with pytest.raises(Invalid, match=r"by: by is .*; give 1 to 1,000,000,000,000\."):
            operations.raise_epoch_floor(by, actor="olive")
    raised = operations.raise_epoch_floor(1, actor="olive")
    assert [one.epoch for one in raised] == [before + 1]


def test_undo_of_a_halt_accepts_any_halt_number_that_the_database_can_store(
    operator: ApiClient,
) -> None:
    for number in (MAX_RAISE, 2**63 - 1):
        problem(operator.post("halt/undo/", {"halt": number}), 404, "not_found")
    problem(operator.post("halt/undo/", {"halt": 2**63}), 400, "invalid")


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_hidden_input_is_read_as_utf_8_whatever_the_locale(
    errors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(content: bytes) -> str:
        stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors=errors)
        monkeypatch.setattr("sys.stdin", stream)
        return read_hidden("value", "Value: ", 100)

    assert given("pass-wörd\n".encode()) == "pass-wörd\n"
    assert given(b"") == ""
    with pytest.raises(Invalid, match=r"^value: the value is not UTF-8 text\.$"):
        given(b"pass\xff")


def test_hidden_input_that_ends_at_the_prompt_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", ended)
    assert read_hidden("value", "Value: ") == ""


def test_alert_address_that_is_not_utf_8_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(
        io.BytesIO(b"jsons://ex\xff.org"), encoding="utf-8", errors="surrogateescape"
    )
    monkeypatch.setattr("sys.stdin", stream)
    with pytest.raises(CommandError, match=r"^address: the address is not UTF-8 text\.$"):
        call_command("alert_channel", "set", "on-call")
    listed: Any = told("alert_channel", "list")
    assert listed == []
