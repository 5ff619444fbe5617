"""The OpenAPI description: each limit in it is enforced, and each response matches it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from drf_spectacular.validation import validate_schema
from rest_framework import serializers

from ginkgo_site.env import CHECKOUT
from scheduling.api import examples
from scheduling.api.request_serializers import NodeLabelsField
from scheduling.api.schema import subclasses_of
from scheduling.models import Event
from scheduling.operations.feeds import create_feed
from scheduling.presentation.fields import (
    LabelsField,
    PriorityField,
    StrictSerializer,
    TextField,
    WeightField,
)
from scheduling.presentation.problems import CODES
from tests.support.api_client import ApiClient, fields_of, problem
from tests.support.artifacts import store_artifact
from tests.support.factories import (
    make_buyer,
    make_node,
    make_portfolio,
    make_running_portfolio,
)

Schema = dict[str, Any]

pytestmark = pytest.mark.django_db
JSON, PROBLEM = "application/json", "application/problem+json"

#: A text without control and bidirectional characters; and one with something to read in it.
LINE = (
    r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029"
    r"\u202a-\u202e\u2066-\u2069\ufeff]*$"
)
WORDS = LINE[:-1] + LINE[1:-2].replace("[^", r"[^\s") + LINE[1:]

#: What the paths name in the tests' fleet.
NAMES = {"name": "p", "pk": "1", "id": "1"}


def operations(schema: Schema) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def resolved(schema: Schema, part: dict[str, Any]) -> dict[str, Any]:
    """Return the part that a reference leads to; of alternatives the first."""
    if "$ref" in part:
        return resolved(schema, schema["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]])
    if "oneOf" in part:
        return resolved(schema, part["oneOf"][0])
    if "allOf" in part:
        return resolved(schema, part["allOf"][0])
    return part


def bodies(schema: Schema) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, method, operation in operations(schema):
        content = operation.get("requestBody", {}).get("content", {})
        if JSON in content:
            yield path, method, resolved(schema, content[JSON]["schema"])


def a_value(schema: Schema, part: dict[str, Any]) -> Any:
    part = resolved(schema, part)
    if "enum" in part:
        return part["enum"][0]
    return {
        "string": "5" if "\\d" in part.get("pattern", "") else "canary",
        "integer": part.get("minimum", 1),
        "boolean": True,
        "object": {},
        "array": [],
    }[part["type"]]


def wrong_values(schema: Schema, part: dict[str, Any]) -> Iterator[Any]:
    """Yield values just beyond each limit that the part states."""
    part = resolved(schema, part)
    if not part:
        return  # any value
    yield [["of no type that is stated"]] if part["type"] != "array" else "no list"
    if "enum" in part:
        yield "none-of-these"
    if "maxLength" in part:
        yield "x" * (part["maxLength"] + 1)
    if part.get("minLength"):
        yield ""
    if "pattern" in part:
        yield "a\u202eb"
    if "maximum" in part:
        yield part["maximum"] + 1
    if "minimum" in part:
        yield part["minimum"] - 1
    if part["type"] == "array" and "items" in part:
        yield from ([wrong] for wrong in wrong_values(schema, part["items"]))
    if "maxItems" in part:
        yield [a_value(schema, part["items"])] * (part["maxItems"] + 1)
    if "maxProperties" in part:
        yield {f"k{number}": "v" for number in range(part["maxProperties"] + 1)}
    if isinstance(part.get("additionalProperties"), dict):
        yield from ({"k": wrong} for wrong in wrong_values(schema, part["additionalProperties"]))


def filled(path: str, names: dict[str, str] = NAMES) -> str:
    for name, value in names.items():
        path = path.replace(f"{{{name}}}", value)
    return path.removeprefix("/api/")


def send(caller: ApiClient, method: str, path: str, body: Any) -> Any:
    return getattr(caller, method)(filled(path), body)


def test_openapi_description_is_valid(schema: Schema) -> None:
    validate_schema(schema)
    assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_every_limit_of_every_body_is_enforced(operator: ApiClient, schema: Schema) -> None:
    make_portfolio("p", desired_state="stopped")
    make_node("p")
    problems = validator(with_definitions(schema, "ProblemDocument"))
    tried, accepted = 0, []
    for path, method, body in bodies(schema):
        assert body["additionalProperties"] is False, (path, method)
        required = {
            name: a_value(schema, body["properties"][name]) for name in body.get("required", ())
        }
        wrong = [{**required, "no_such_field": 1}, "no object"]
        for name, part in body["properties"].items():
            wrong += [{**required, name: value} for value in wrong_values(schema, part)]
        for one in wrong:
            tried += 1
            answer = send(operator, method, path, one)
            if answer.status_code != 400:
                accepted.append((method, path, str(one)[:80], answer.status_code))
            else:
                problems.validate(answer.json())
    assert accepted == []
    assert tried > 100


def stated_limits(field: Any) -> dict[str, Any]:
    """Return what the description of a field must say, from what the field enforces."""
    limits = {
        "maxLength": getattr(field, "max_length", None),
        "maximum": getattr(field, "max_value", None),
        "minimum": getattr(field, "min_value", None),
        "nullable": True if field.allow_null else None,
    }
    if isinstance(field, serializers.CharField) and not field.allow_blank:
        limits["minLength"] = 1
    if isinstance(field, TextField) and field.described_pattern is None:
        limits["pattern"] = LINE if field.allow_blank else WORDS
    if isinstance(field, serializers.ListField):
        limits = {"minItems": field.min_length, "maxItems": field.max_length}
    return {name: value for name, value in limits.items() if value is not None}


def differences(name: str, field: Any, part: dict[str, Any]) -> Iterator[str]:
    """Yield each limit that is enforced and not described."""
    limits = stated_limits(field)
    if isinstance(field, WeightField | PriorityField):
        limits = {}  # what `scheduling.operations` checks is narrower
    for limit, value in limits.items():
        if part.get(limit) != value:
            yield f"{name}: {limit} is {part.get(limit)!r}, enforced is {value!r}"
    if isinstance(field, serializers.ListField):
        yield from differences(f"{name}[]", field.child, part["items"])
    if isinstance(field, LabelsField) and not isinstance(field, NodeLabelsField):
        yield from differences(f"{name}.*", field.child, part["additionalProperties"])


def test_every_limit_that_is_enforced_is_described(schema: Schema) -> None:
    found: list[str] = []
    seen = 0
    described = schema["components"]["schemas"]
    for body in subclasses_of(StrictSerializer):
        for title in (body.__name__, f"Patched{body.__name__}"):
            if title not in described:
                continue
            fields = body().fields
            part = described[title]
            assert set(part.get("properties", ())) == set(fields), title
            needed = {name for name, field in fields.items() if field.required}
            assert set(part.get("required", ())) == needed, title
            for name, field in fields.items():
                seen += 1
                one = part["properties"][name]
                if isinstance(field, serializers.ChoiceField):
                    assert resolved(schema, one)["enum"] == list(field.choices), (title, name)
                else:
                    found += differences(f"{title}.{name}", field, one)
    assert found == []
    assert seen > 60


def test_limits_that_operations_check_are_described(schema: Schema) -> None:
    roll_out = schema["components"]["schemas"]["RollOutBody"]["properties"]["portfolios"]
    assert (roll_out["minItems"], roll_out["maxItems"]) == (1, 1000)
    post = schema["paths"]["/api/portfolios/"]["post"]
    _, many = post["requestBody"]["content"][JSON]["schema"]["oneOf"]
    assert (many["minItems"], many["maxItems"]) == (1, 1000)


def test_labels_of_a_node_are_described_as_they_are_enforced(
    operator: ApiClient, schema: Schema
) -> None:
    make_node("node-1", labels={"its own": "v" * 90})
    labels = schema["components"]["schemas"]["PatchedLabelsBody"]["properties"]["labels"]
    assert "80 characters, no `=` and no spaces" in labels["description"]
    assert labels["maxProperties"] == 50
    values = {"type": "string", "minLength": 1, "maxLength": 80, "pattern": r"^(?:\S+)$"}
    assert labels["additionalProperties"] == values
    for given, status in (
        ({"k" * 80: "v" * 80, "its own": "v" * 90}, 200),
        ({"k" * 81: "v"}, 400),
        ({"k": "v" * 81}, 400),
        ({"k=": "v"}, 400),
        ({"k k": "v"}, 400),
        ({"k": "v v"}, 400),
    ):
        answer = operator.patch("nodes/node-1/", {"labels": given})
        assert answer.status_code == status, given
        if status == 400:
            assert {field.partition(".")[0] for field in fields_of(answer.json())} == {"labels"}


def test_path_parameters_are_described_with_the_pattern_that_the_server_applies(
    operator: ApiClient, schema: Schema
) -> None:
    for path, _, operation in operations(schema):
        for one in operation.get("parameters", ()):
            if one.get("in") == "path":
                assert {"pattern", "minimum"} & set(one["schema"]), (path, one["name"])
    name = schema["paths"]["/api/nodes/{name}/"]["get"]["parameters"][0]["schema"]["pattern"]
    assert re.search(name, "node_A-1")
    assert not re.search(name, "node.1")
    dotted, other = (operator.get(f"nodes/{one}/").json()["detail"] for one in ("node.1", "x"))
    assert dotted != other


def test_a_patch_of_a_node_without_labels_changes_none(operator: ApiClient) -> None:
    make_node("node-1", labels={"zone": "a"})
    answer = operator.patch("nodes/node-1/", {})
    assert (answer.status_code, answer.json()["labels"]) == (200, {"zone": "a"})
    assert operator.patch("nodes/node-1/", {"labels": {}}).json()["labels"] == {}


def validator(schema: Schema) -> jsonschema.protocols.Validator:
    """Return what validates instances; `jsonschema.validate` would check the schema each time."""
    return jsonschema.validators.validator_for(schema)(schema)


def with_definitions(schema: Schema, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": schema["components"]}


def nullable(part: Any) -> Any:
    """Return the schema as jsonschema reads it: OpenAPI 3.0 says `nullable` beside the type."""
    if isinstance(part, list):
        return [nullable(one) for one in part]
    if not isinstance(part, dict):
        return part
    inner = {key: nullable(value) for key, value in part.items() if key != "nullable"}
    return {"anyOf": [inner, {"type": "null"}]} if part.get("nullable") is True else inner


def test_every_get_response_matches_its_schema(operator: ApiClient, schema: Schema) -> None:
    make_buyer("p", make_node("node-1"), 20, "IBM")
    operator.post("nodes/node-1/cordon/")
    create_feed("p", [], actor="test")
    sha256 = store_artifact().sha256
    components = nullable(schema["components"])
    seen = 0
    for path, method, operation in operations(schema):
        name = "node-1" if "/nodes/" in path else "p"
        content = operation["responses"].get("200", {}).get("content", {})
        if method != "get" or JSON not in content or "{pk}" in path or "{id}" in path:
            continue
        needed = [p for p in operation.get("parameters", []) if p.get("required")]
        query = {p["name"]: "p" for p in needed if p["in"] == "query"}
        answer = operator.get(filled(path, {"name": name, "sha256": sha256}), **query)
        if path == "/api/schema/":
            continue
        assert answer.status_code == 200, (path, answer.content)
        stated = {**nullable(content[JSON]["schema"]), "components": components}
        try:
            validator(stated).validate(answer.json())
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{path}: {error.json_path}: {error.message[:300]}") from None
        seen += 1
    assert seen > 20


def test_the_response_to_a_deletion_is_described(operator: ApiClient, schema: Schema) -> None:
    make_running_portfolio("p", make_node("node-1"))
    operation = schema["paths"]["/api/portfolios/{name}/"]["delete"]
    stated = operation["responses"]["202"]["content"][JSON]["schema"]
    answer = operator.delete("portfolios/p/", {"reason": "no longer needed"})
    assert answer.status_code == 202
    validator({**nullable(stated), "components": nullable(schema["components"])}).validate(
        answer.json()
    )
    assert set(answer.json()) == {"handoff"}
    assert answer.json()["handoff"]["kind"] == "stop"
    assert Event.objects.get(kind="portfolio_deleted").reason == "no longer needed"


def test_every_problem_is_described_with_its_codes(operator: ApiClient, schema: Schema) -> None:
    named: set[str] = set()
    for path, method, operation in operations(schema):
        problems = {status for status in operation["responses"] if status >= "400"}
        assert problems >= {"400", "401", "403", "429", "500", "503"}, (path, method)
        if method != "get":
            assert problems >= {"404", "409", "415", "422"}, (path, method)
        named |= {operation["responses"][one]["$ref"].rsplit("/", 1)[1] for one in problems}
    described: set[str] = set()
    for name in named:
        content = schema["components"]["responses"][name]["content"]
        assert list(content) == [PROBLEM], name
        closed = {**content[PROBLEM]["schema"], "components": schema["components"]}
        validator(closed).validate(content[PROBLEM]["example"])
        described |= set(closed["allOf"][1]["properties"]["code"]["enum"])
        if name == "Problem409":  # the channel of the environment cannot be deleted
            assert "invalid" in closed["allOf"][1]["properties"]["code"]["enum"]
    # The one code that no operation answers with, since the method has no operation.
    assert described == set(CODES) - {"method_not_allowed"}
    document = problem(operator.get("portfolios/none/"), 404, "not_found")
    validator(with_definitions(schema, "ProblemDocument")).validate(document)


def test_every_problem_code_that_is_raised_is_documented() -> None:
    raised = set()
    for folder in ("scheduling", "portfolios"):
        for file in (CHECKOUT / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if "Refused(" not in text or "node_daemon" in file.parts:
                continue
            for call in ast.walk(ast.parse(text)):
                if isinstance(call, ast.Call) and call.args:
                    first = call.args[0]
                    named = getattr(call.func, "id", getattr(call.func, "attr", ""))
                    if named in ("Refused", "WheelRefused") and isinstance(first, ast.Constant):
                        raised.add(first.value)
    assert len(raised) > 50
    assert raised <= set(CODES)


def test_every_body_has_an_example_that_is_accepted(operator: ApiClient, schema: Schema) -> None:
    make_node("node-2")
    make_portfolio("p", desired_state="stopped", strategy="sma_cross", symbols=["IBM"])
    schemas = schema["components"]["schemas"]
    closed = nullable(schema["components"])
    for name in (*examples.BODIES, *examples.DOCUMENTS):
        stated = {"$ref": f"#/components/schemas/{name}", "components": closed}
        validator(stated).validate(schemas[name]["example"])
    for path, method, body in bodies(schema):
        assert "example" in body, (method, path)
        answer = send(operator, method, path, body["example"])
        # The fleet may not allow it; the body itself is right.
        wrong = [error["field"] for error in answer.json().get("errors", ())]
        assert answer.status_code != 400 or wrong == ["artifact"], (path, answer.content)
