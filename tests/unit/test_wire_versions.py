"""Two neighbouring versions of the node protocol understand each other."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from scheduling.wire import messages
from tests.support.wire_schema import Schema, misreadings, schema_of, stored_schema

HELP = (
    "Peers of this protocol would misread each other. Give a new field a default, and leave the "
    "others as they are; or raise PROTOCOL, serve both versions and keep the new one "
    "(tests/support/wire_schema.py)."
)


def now() -> Schema:
    found: Schema = json.loads(json.dumps(schema_of(messages)))
    return found


def test_messages_are_compatible_with_the_stored_schema_of_their_protocol() -> None:
    assert misreadings(stored_schema(messages.PROTOCOL), now()) == [], HELP


def test_nodes_of_this_protocol_version_and_the_one_before_are_accepted() -> None:
    assert messages.SPOKEN[-1] == messages.PROTOCOL
    assert len(messages.SPOKEN) == min(messages.PROTOCOL, 2)


def misreadings_after(change: Callable[[Schema], Any]) -> list[str]:
    after = copy.deepcopy(now())
    change(after)
    return misreadings(now(), after)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("Goodbye"), "Goodbye is gone"),
        (lambda s: s["Goodbye"]["fields"].pop(), "Goodbye.reason is gone"),
        (lambda s: s["Goodbye"]["fields"][1].__setitem__(1, "int"), "was str and is int"),
        (lambda s: s["Goodbye"]["fields"][1].__setitem__(2, True), "reason is required now"),
        (lambda s: s["Goodbye"]["fields"].append(["x", "int", True]), "x is new and required"),
        (lambda s: s["Halted"].__setitem__("tag", "stop"), "Halted is encoded in another way"),
        (
            lambda s: s["EquityLine"]["fields"].insert(0, ["x", "int", False]),
            "EquityLine has its fields in another order",
        ),
    ],
)
def test_change_that_peers_misread_is_named(change: Callable[[Schema], Any], says: str) -> None:
    (found,) = misreadings_after(change)
    assert says in found


def test_an_optional_field_may_be_added() -> None:
    assert misreadings_after(lambda s: s["Goodbye"]["fields"].insert(0, ["x", "int", False])) == []
    assert misreadings_after(lambda s: s["EquityLine"]["fields"].append(["x", "int", False])) == []
    assert misreadings_after(lambda s: s.__setitem__("New", s["Goodbye"])) == []
