"""Lists of the API: filters, order and pages, each as described."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api_client import ApiClient, fields_of, problem
from tests.support.factories import make_buyer, make_node, make_portfolio

pytestmark = pytest.mark.django_db


def lists(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the address and the parameters of each list that has pages."""
    found = []
    for path, methods in schema["paths"].items():
        parameters = {one["name"]: one for one in methods.get("get", {}).get("parameters", ())}
        if "cursor" in parameters:
            found.append((path.removeprefix("/api/").replace("{name}", "p"), parameters))
    return found


def test_every_list_has_the_parameters_that_it_describes_and_no_others(
    operator: ApiClient, schema: dict[str, Any]
) -> None:
    make_buyer("p", make_node("node-1"), 20, "IBM")
    found = lists(schema)
    assert len(found) > 15
    for path, parameters in found:
        document = problem(operator.get(path, **{"no-such": "1"}), 400, "invalid")
        assert fields_of(document) == {"no-such": "unknown_field"}
        for name, one in parameters.items():
            if one["in"] != "query" or name == "cursor":
                continue
            assert name in document["detail"], (path, name)
            for odd in ("\0", "1e400"):
                wrong = operator.get(path, **{name: odd})
                # Names are compared as they are, and these are of nothing.
                assert wrong.status_code == 400 or wrong.json()["results"] == [], (path, name, odd)
            for value in one["schema"].get("enum", ()):
                assert operator.get(path, **{name: value}).status_code == 200, (path, name, value)


def test_pages_show_the_same_rows_in_either_order_and_direction(operator: ApiClient) -> None:
    for number in range(7):
        make_portfolio(f"p-{number}")

    def walked(path: str, order: str, step: str = "next", start: str = "") -> list[Any]:
        rows: list[Any] = []
        page = operator.get(path, limit=3, order=order).json()
        while step == "previous" and page["next"]:
            page = operator.get(page["next"].partition("/api/")[2]).json()
        while True:
            own = [row[order.removeprefix("-")] for row in page["results"]]
            rows = rows + own if step == "next" else own + rows
            if not page[step]:
                return rows
            page = operator.get(page[step].partition("/api/")[2]).json()

    for path, field in (("events/", "id"), ("portfolios/", "name")):  # a table, and a fleet view
        upward = walked(path, field)
        assert len(upward) > 3, path
        assert upward == sorted(upward), path
        assert walked(path, f"-{field}") == upward[::-1], path
        assert walked(path, field, "previous") == upward, path
        assert walked(path, f"-{field}", "previous") == upward[::-1], path


def test_an_unknown_parameter_of_an_object_or_an_action_is_refused(operator: ApiClient) -> None:
    make_portfolio("p")
    for answer in (operator.get("portfolios/p/", fields="name"), operator.get("halt/", limit=3)):
        assert "no parameter is known" in problem(answer, 400, "invalid")["detail"]
    answer = operator.post("portfolios/p/stop/?when=later", {})
    assert fields_of(problem(answer, 400, "invalid")) == {"when": "unknown_field"}


def test_a_parameter_that_is_given_twice_is_refused_unless_it_may_be(operator: ApiClient) -> None:
    make_node("node-1")
    make_node("node-2")
    for path in ("events/?kind=frozen&kind=unfrozen", "nodes/?status=lost&status=alive"):
        document = problem(operator.get(path), 400, "invalid")
        assert document["detail"].endswith("is given 2 times; give it once")
    scenario = operator.get("schedule/plan/?lose=node-1&lose=node-2&add=1&add=2").json()
    assert (scenario["lose"], len(scenario["add"])) == (["node-1", "node-2"], 2)
