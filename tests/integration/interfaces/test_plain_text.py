"""No interface takes a control or bidirectional character, and the database takes no such name."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from portfolios.models import Portfolio, Revision
from scheduling import operations
from scheduling.errors import Invalid
from scheduling.models import Event, Node, Run
from tests.support.api_client import ApiClient, counted_statements, fields_of, problem
from tests.support.commands import said, told
from tests.support.factories import make_node, make_portfolio

pytestmark = pytest.mark.django_db

PLAIN: dict[str, Any] = {"name": "p", "strategy": "canary"}


# --- names ----------------------------------------------------------------------------------------


def test_a_name_with_a_line_break_is_refused_at_the_command_line_too() -> None:
    with pytest.raises(CommandError, match=r"U\+000A"):
        said("create_portfolio", "bad\n", "--strategy", "canary")
    with pytest.raises(Invalid):
        operations.create_portfolio(operations.NewPortfolio("bad\n", "canary"), actor="ann")
    assert not Portfolio.objects.exists()


def test_the_database_refuses_a_name_with_a_line_break() -> None:
    portfolio = make_portfolio("good")
    for name in ("bad\n", "Bad", "b d", "-", "", "b\u202ed"):
        with pytest.raises(IntegrityError, match="portfolio_name_plain"), transaction.atomic():
            Portfolio.objects.filter(pk=portfolio.pk).update(name=name)


def test_the_migration_renames_invalid_names_and_pages_open(browser: Client) -> None:
    migration = importlib.import_module("portfolios.migrations.0005_plain_names")
    renamed = {"bad\n": "bad-{}", "Bad One\t!": "bad-one-{}", "\n": "{}"}
    portfolios = {name: make_portfolio(f"p-{at}") for at, name in enumerate(renamed)}
    make_portfolio("other")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE portfolios_portfolio DROP CONSTRAINT portfolio_name_plain")
        for name, portfolio in portfolios.items():
            Portfolio.objects.filter(pk=portfolio.pk).update(name=name)
        cursor.execute(migration.RENAME)
        cursor.execute(migration.STRIP)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "ALTER TABLE portfolios_portfolio ADD CONSTRAINT portfolio_name_plain "
            f"CHECK (name ~ '{migration.PLAIN}')"
        )
    for name, portfolio in portfolios.items():
        portfolio.refresh_from_db()
        assert portfolio.name == renamed[name].format(str(portfolio.uid)[:8])
    assert Portfolio.objects.get(name="other")
    for page in ("/", "/portfolios/", "/handoffs/", "/audit/"):
        assert browser.get(page).status_code == 200, page


# --- everything else that is typed ----------------------------------------------------------------


WITH_CONTROL_CHARACTER = (
    ({"name": "p\n"}, "name"),
    ({"spread_group": "a\u202eb"}, "spread_group"),
    ({"selector": {"zone": "a\x1b"}}, "selector.zone"),
    ({"selector": {"zo\u2066ne": "a"}}, "selector"),
    ({"config": {"note": "a\x07"}}, "config"),
    ({"note": "two\nlines"}, "note"),
    ({"symbols": ["IB\u200eM"]}, "symbols.0"),
)


def test_the_api_names_the_field_that_contains_a_control_character(operator: ApiClient) -> None:
    for change, field in WITH_CONTROL_CHARACTER:
        document = problem(operator.post("portfolios/", PLAIN | change), 400, "invalid")
        assert fields_of(document) == {field: "unprintable"}, document
        assert "control or bidirectional" in document["detail"]


def test_reason_with_a_bidirectional_character_is_refused_by_every_interface(
    operator: ApiClient, browser: Client
) -> None:
    node = make_node("node-1")
    bad = "because\u202e"
    document = problem(operator.post("nodes/node-1/drain/", {"reason": bad}), 400, "invalid")
    assert fields_of(document) == {"reason": "unprintable"}
    with pytest.raises(CommandError, match=r"U\+202E"):
        said("drain_node", "node-1", "--reason", bad)
    assert browser.post("/nodes/node-1/drain/", {"reason": bad}).status_code == 400
    chosen = {"action": "drain", "_selected_action": [node.row.pk], "confirmed": "yes"}
    browser.post(reverse("admin:scheduling_node_changelist"), {**chosen, "reason": bad})
    assert not Node.objects.get(name="node-1").draining


def test_control_characters_in_an_edit_are_refused_beside_their_field(browser: Client) -> None:
    portfolio = make_portfolio("p", strategy="buy_and_hold", symbols=["IBM"])
    form = {"base": operations.EditBase.of(portfolio).token, "strategy": "buy_and_hold"}
    form |= {"symbols": "IBM", "weight": "2", "priority": "0", "catch_up": "state_only"}
    for name in ("selector", "spread_group", "note", "config.quantity"):
        bad = "zone=a\u202e" if name == "selector" else "a\u202e"
        answer = browser.post("/portfolios/p/edit/", {**form, name: bad})
        assert answer.status_code == 400
        assert f'data-field="{name}"' in answer.content.decode()
        assert 'name="weight" value="2"' in answer.content.decode()
    assert browser.post("/portfolios/p/edit/", form | {"selector": "zone=a"}).status_code == 302
    assert Portfolio.objects.get().selector == {"zone": "a"}


def test_text_from_programs_is_escaped_in_the_audit_log() -> None:
    make_node("node-1")
    operations.drain("node-1", actor="x\x1b", reason="a\nb\u202e")
    line = Event.objects.get(kind="node_draining")
    assert (line.actor, line.reason) == ("x\\x1b", "a\\nb\\u202e")


# --- many at once ---------------------------------------------------------------------------------


def many(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{**PLAIN, "name": f"p-{number}", **more} for number in range(count)]


def test_portfolios_created_by_one_list_equal_those_created_by_single_calls(
    operator: ApiClient,
) -> None:
    answer = operator.post("portfolios/", many(3, weight=2, note="batch"))
    assert answer.status_code == 201, answer.content
    assert answer.json() == {"created": 3, "names": ["p-0", "p-1", "p-2"]}
    operator.post("portfolios/", {**PLAIN, "name": "alone", "weight": 2, "note": "batch"})
    rows = {row.name: row for row in Portfolio.objects.all()}
    for name in ("weight", "catch_up", "desired_state", "starting_cash", "feed_id", "revision"):
        assert {getattr(row, name) for row in rows.values()} == {getattr(rows["alone"], name)}
    waiting = ("pending", "waits for the next pass")
    assert set(Run.objects.values_list("phase", "reason")) == {waiting}
    assert Revision.objects.filter(number=1, created_by="olive", note="batch").count() == 4
    lines = Event.objects.filter(kind="portfolio_created", actor="olive", interface="api")
    assert lines.count() == 4
    assert set(lines.values_list("portfolio__name", flat=True)) == set(rows)


def test_list_with_one_invalid_portfolio_creates_none_and_names_the_invalid_position(
    operator: ApiClient,
) -> None:
    wrong = many(4)
    wrong[2] = {"name": "BAD", "strategy": "nothing", "weights": 1}
    document = problem(operator.post("portfolios/", wrong), 400, "invalid")
    assert fields_of(document) == {"2.weights": "unknown_field"}
    wrong[2] = {"name": "BAD", "strategy": "nothing"}
    document = problem(operator.post("portfolios/", wrong), 400, "invalid")
    assert fields_of(document) == {"2.name": "not_a_slug", "2.strategy": "unknown_strategy"}
    wrong[2] = {"name": "p-0", "strategy": "canary"}
    document = problem(operator.post("portfolios/", wrong), 400, "invalid")
    assert fields_of(document) == {"2.name": "twice"}
    make_portfolio("p-3")
    document = problem(operator.post("portfolios/", many(4)), 409, "name_taken")
    assert "p-3" in document["detail"]
    assert Portfolio.objects.count() == 1


def test_empty_or_too_long_list_of_new_portfolios_is_refused(operator: ApiClient) -> None:
    for length in (0, 1001):
        document = problem(operator.post("portfolios/", many(length)), 400, "invalid")
        assert "1 to 1,000" in document["detail"]


def test_creating_forty_portfolios_as_one_list_takes_fewer_than_twenty_statements(
    operator: ApiClient,
) -> None:
    operator.post("portfolios/", many(1))
    with counted_statements() as seen:
        wanted = [operations.NewPortfolio(f"q-{n}", "canary") for n in range(40)]
        operations.create_portfolios(wanted, actor="ann")
    assert len(seen) < 20, len(seen)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a file, of which ten portfolios are created at once."""
    for module in ("scheduling.operations", "scheduling.operations.portfolios"):
        monkeypatch.setattr(f"{module}.MAX_AT_ONCE", 10)
    return tmp_path / "many.jsonl"


def test_portfolios_of_a_file_are_created_in_batches(path: Path) -> None:
    path.write_text("\n\n".join(json.dumps(one) for one in many(11)) + "\n")
    assert told("create_portfolio", "--file", str(path)) == {"created": 11}
    assert Portfolio.objects.count() == 11


def test_portfolio_file_with_an_invalid_line_names_that_line_and_the_created_portfolios(
    path: Path,
) -> None:
    path.write_text('{"name": "a", "strategy": "canary"}\n{"name": "b"}\n')
    with pytest.raises(CommandError, match=r"line 2: strategy: .*created from earlier lines: 0"):
        said("create_portfolio", "--file", str(path))
    path.write_text("{\n")
    with pytest.raises(CommandError, match="line 1: is not JSON"):
        said("create_portfolio", "--file", str(path))
    path.write_text("5\n")
    with pytest.raises(CommandError, match=r"line 1: The body must be a JSON object"):
        said("create_portfolio", "--file", str(path))
    path.write_text("[" * 200_000)
    with pytest.raises(CommandError, match="line 1: is not JSON: Nested deeper"):
        said("create_portfolio", "--file", str(path))
    path.write_text('\n{"name": "a", "strategy": "canary"}\n{"name": "a", "strategy": "canary"}\n')
    with pytest.raises(CommandError, match=r"line 3\.name: line 2\.name is a too\."):
        said("create_portfolio", "--file", str(path))
    with pytest.raises(CommandError, match="cannot be read"):
        said("create_portfolio", "--file", str(path.parent / "no"))


def test_portfolio_file_not_readable_to_its_end_names_the_number_of_created_portfolios(
    path: Path,
) -> None:
    lines = "\n".join(json.dumps(one) for one in many(10)).encode()
    path.write_bytes(lines + b"\n" * 100_000 + b"\xff")  # behind what a first read returns
    with pytest.raises(CommandError, match=r"not text in UTF-8\. .* from earlier lines: 10\."):
        said("create_portfolio", "--file", str(path))
    assert Portfolio.objects.count() == 10
