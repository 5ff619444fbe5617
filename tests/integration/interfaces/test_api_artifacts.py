"""Artifacts and strategies over the API, and the command that adds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from portfolios.models import Artifact
from portfolios.strategies import registry
from scheduling.api import artifacts
from scheduling.models import Event
from tests.support.api_client import ApiClient, problem
from tests.support.artifacts import SCHEMA, make_wheel, store_artifact
from tests.support.commands import said
from tests.support.factories import make_portfolio

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home")]


def upload(client: ApiClient, filename: str, wheel: bytes, **more: Any) -> Any:
    return client.form("artifacts/", {"wheel": SimpleUploadedFile(filename, wheel), **more})


def test_wheel_is_uploaded_in_a_form_or_as_the_body_of_the_request(operator: ApiClient) -> None:
    filename, wheel = make_wheel()
    created = upload(operator, filename, wheel)
    assert created.status_code == 201, created.content
    document = created.json()
    assert (document["name"], document["strategies"]) == ("momentum-demo", ["momentum"])
    assert created["Location"].endswith(f"/api/artifacts/{document['sha256']}/")

    again = operator.raw(
        "POST", f"artifacts/?filename={filename}", wheel, "application/octet-stream"
    )
    assert (again.status_code, again.json()["sha256"]) == (200, document["sha256"])


@pytest.mark.parametrize("body", [{}, {"lock": SimpleUploadedFile("l", b"x")}])
def test_form_without_a_wheel_names_the_field(operator: ApiClient, body: dict[str, Any]) -> None:
    answer = operator.form("artifacts/", body)
    assert answer.status_code == 400
    assert [e["field"] for e in answer.json()["errors"]] == ["wheel"]


def test_malformed_lock_is_refused(operator: ApiClient) -> None:
    answer = upload(operator, *make_wheel(), lock=SimpleUploadedFile("l.txt", b"-e ."))
    assert (answer.status_code, answer.json()["code"]) == (400, "not_a_lock")
    binary = upload(operator, *make_wheel(), lock=SimpleUploadedFile("l.txt", b"\xff\xfe"))
    assert binary.json()["errors"][0]["field"] == "lock"


def test_too_large_upload_is_refused_in_a_form_and_as_a_body(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MAX_BODY_BYTES", 1000)
    monkeypatch.setattr(artifacts, "MAX_WHEEL_BYTES", 1000)
    filename, wheel = make_wheel(files={"a.py": "x = 1\n" + "".join(map(str, range(5000)))})
    raw = operator.raw("POST", f"artifacts/?filename={filename}", wheel, "application/octet-stream")
    for answer in (upload(operator, filename, wheel), raw):
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_viewer_reads_and_does_not_upload(viewer: ApiClient) -> None:
    artifact = store_artifact()
    assert upload(viewer, *make_wheel()).status_code == 403
    assert viewer.delete(f"artifacts/{artifact.sha256}/").status_code == 403
    (listed,) = viewer.get("artifacts/").json()["results"]
    assert listed["sha256"] == artifact.sha256


def test_artifact_used_by_portfolios_names_them_and_is_not_deleted(operator: ApiClient) -> None:
    used, unused = store_artifact("1.0"), store_artifact("2.0", code="two")
    make_portfolio("p", strategy="momentum", symbols=["IBM"], artifact=used.sha256)
    document = operator.get(f"artifacts/{used.sha256[:12]}/").json()
    assert document["used_by"] == [
        {"portfolio": "p", "revisions": "r1", "is_wanted": True, "is_deleted": False}
    ]
    refused = operator.delete(f"artifacts/{used.sha256}/")
    assert problem(refused, 409, "artifact_in_use")["portfolios"] == ["p"]
    assert operator.delete(f"artifacts/{unused.sha256[:10]}/").status_code == 204
    assert operator.get(f"artifacts/{unused.sha256}/").status_code == 404
    assert Event.objects.filter(kind="artifact_deleted", actor="olive").count() == 1


def test_strategies_of_release_and_artifacts_are_listed_with_their_schemas(
    viewer: ApiClient,
) -> None:
    artifact = store_artifact()
    lines = viewer.get("strategies/").json()["results"]
    by_name = {line["name"]: line for line in lines}
    assert set(by_name) == {*registry.BUILT_IN, "momentum"}
    assert by_name["sma_cross"]["origin"] == "release"
    schema = json.dumps(registry.BUILT_IN["sma_cross"].schema())
    assert by_name["sma_cross"]["schema"] == json.loads(schema)
    mine = by_name["momentum"]
    assert (mine["origin"], mine["artifact"], mine["schema"]) == (
        "artifact", artifact.sha256, SCHEMA,
    )  # fmt: skip
    page = viewer.get("strategies/?limit=2").json()
    assert len(page["results"]) == 2
    assert page["next"]


def test_portfolio_is_created_with_an_artifact_and_patched_to_another(operator: ApiClient) -> None:
    shas = [store_artifact(version, code=version).sha256 for version in ("1.0", "2.0")]
    body = {"name": "p", "strategy": "momentum", "symbols": ["IBM"], "artifact": shas[0]}
    assert operator.post("portfolios/", body).json()["artifact"] == shas[0]
    answer = operator.patch("portfolios/p/", {"artifact": shas[1]})
    assert answer.json()["portfolio"]["revision"] == 2
    revisions = operator.get("portfolios/p/revisions/").json()["results"]
    assert [revision["artifact"] for revision in revisions] == shas[::-1]


def test_add_artifact_command_stores_a_wheel_and_names_its_strategies(tmp_path: Path) -> None:
    filename, wheel = make_wheel()
    (tmp_path / filename).write_bytes(wheel)
    shown = said("add_artifact", str(tmp_path / filename))
    artifact = Artifact.objects.get()
    assert shown.strip() == f"momentum-demo 1.0 was added: {artifact.sha256} (momentum)"
    given = ("--strategy", "momentum", "--symbols", "IBM", "--artifact", artifact.sha256[:8])
    said("create_portfolio", "p", *given)
    assert artifact.revisions.get().portfolio.name == "p"
