"""Revisions that pin an artifact: created, changed, refused, and what nodes are told of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from portfolios.models import Portfolio, Revision
from scheduling import operations
from scheduling.errors import Invalid, Refused
from scheduling.operations import NewPortfolio
from tests.support.artifacts import store_artifact
from tests.support.factories import (
    begin_reload,
    make_node,
    make_portfolio,
    make_running_portfolio,
    newest_handoff,
    run_of,
)
from tests.support.refusals import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]

MOMENTUM: dict[str, Any] = {"strategy": "momentum", "symbols": ["IBM"]}


def revision(portfolio: Portfolio) -> Revision:
    portfolio.refresh_from_db()
    return portfolio.revisions.get(number=portfolio.revision)


def errors(act: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        act()
    return [(e["field"], e["code"]) for e in caught.value.extra["errors"]]


def test_change_of_the_artifact_alone_makes_a_revision_and_a_reload(run_here: Any) -> None:
    """A change of code was once no change: the number of the version had to be raised, and web
    to be restarted, before a PATCH made a revision."""
    first, second = (store_artifact(v, code=v) for v in ("1.0", "2.0"))
    run_here(first)
    node = make_node("node-1", python="3.13")
    made = make_running_portfolio("p", node, artifact=first.sha256, **MOMENTUM)
    handoff = begin_reload("p", {"artifact": second.sha256})
    assert (handoff.kind, handoff.to_revision) == ("reload", 2)
    assert revision(made).artifact_id == second.sha256
    (entry,) = node.desired("prepare")
    assert entry.spec["artifact"] == second.sha256
    assert entry.spec["strategy_class"] == "momentum_demo:Momentum"
    (running,) = node.desired("run")
    assert running.spec["artifact"] == first.sha256


def test_change_of_the_artifact_to_null_selects_a_built_in_strategy() -> None:
    made = make_portfolio("p", artifact=store_artifact().sha256, **MOMENTUM)
    changes: dict[str, Any] = {"artifact": None, "strategy": "buy_and_hold", "config": {}}
    operations.revise_portfolio("p", changes, actor="olive")
    assert (revision(made).artifact_id, revision(made).strategy) == (None, "buy_and_hold")


def test_configuration_invalid_under_the_new_schema_names_its_fields() -> None:
    first = store_artifact("1.0")
    changed: Any = {"$defs": {"P": {"properties": {"window": {"type": "integer"}},
                                    "required": ["window"], "type": "object"}},
                    "$ref": "#/$defs/P"}  # fmt: skip
    second = store_artifact("2.0", schema=changed)
    made = make_portfolio("p", artifact=first.sha256, config={"fast": 2}, **MOMENTUM)
    change = {"artifact": second.sha256}
    found = errors(lambda: operations.revise_portfolio("p", change, actor="olive"))
    assert found == [("config.fast", "unknown_parameter"), ("config.window", "required")]
    assert revision(made).number == 1


def test_value_that_names_no_artifact_is_refused() -> None:
    make_portfolio("p")
    wrong: tuple[tuple[Any, str], ...] = (("12345678", "unknown_artifact"), (7, "wrong_type"))
    for given, code in wrong:
        new = NewPortfolio("q", "momentum", symbols=["IBM"], artifact=given)
        change = {"artifact": given}
        for act in (
            partial(operations.revise_portfolio, "p", change, actor="o"),
            partial(operations.create_portfolio, new, actor="o"),
        ):
            assert errors(act) == [("artifact", code)]


def test_strategy_that_the_artifact_lacks_is_refused_and_the_others_are_named() -> None:
    artifact = store_artifact()
    make_portfolio("p")
    with pytest.raises(Invalid, match=r"no strategy 'canary'; it has: momentum"):
        operations.revise_portfolio("p", {"artifact": artifact.sha256}, actor="olive")


def test_reload_is_refused_on_a_node_with_another_python(run_here: Any) -> None:
    old = store_artifact("1.0")
    new = store_artifact("2.0", code="2", pythons=["3.14"])
    run_here(old)
    node = make_node("node-1", python="3.13")
    made = make_running_portfolio("p", node, artifact=old.sha256, **MOMENTUM)
    _, handoff = operations.revise_portfolio("p", {"artifact": new.sha256}, actor="olive")
    assert handoff is None
    assert run_of(made).revision == 1
    with pytest.raises(Refused, match=r"needs Python 3\.14"):
        operations.reload("p", actor="olive")
    assert newest_handoff(made).kind == "place"


def test_waiting_portfolio_says_which_python_its_artifact_needs() -> None:
    make_node("node-1", python="3.13")
    make_portfolio("p", artifact=store_artifact(pythons=["3.14"]).sha256, **MOMENTUM)
    refusal = refused(lambda: operations.migrate("p", None, actor="olive"))
    assert "Python 3.14 for momentum-demo 1.0" in refusal.message


def test_node_without_the_installed_strategy_takes_a_portfolio_of_an_artifact() -> None:
    node = make_node("node-1", python="3.13")
    make_portfolio("p", artifact=store_artifact().sha256, **MOMENTUM)
    assert "momentum" not in node.row.strategies
    assert operations.migrate("p", None, actor="olive").target_node == node.row
