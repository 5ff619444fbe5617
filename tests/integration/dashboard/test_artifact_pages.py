"""The pages of strategies: list, upload, detail, deletion, and the artifact in the edit form."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from portfolios.models import Artifact, Portfolio
from scheduling.dashboard.views import artifacts
from scheduling.operations import EditBase
from scheduling.permissions import Role
from tests.support.artifacts import make_wheel, store_artifact
from tests.support.factories import make_portfolio
from tests.support.pages import signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home")]


def test_list_shows_artifacts_with_their_strategies(desk: Client) -> None:
    artifact = store_artifact()
    make_portfolio("p", strategy="momentum", symbols=["IBM"], artifact=artifact.sha256)
    page = desk.get("/strategies/").content.decode()
    assert f'data-artifact="{artifact.sha256}"' in page
    assert "momentum" in page
    assert 'enctype="multipart/form-data"' in page
    assert "Nothing matches" in desk.get("/strategies/?q=nonesuch").content.decode()


def test_upload_leads_to_the_page_of_the_artifact(desk: Client) -> None:
    filename, wheel = make_wheel()
    answer = desk.post("/strategies/", {"wheel": SimpleUploadedFile(filename, wheel)})
    artifact = Artifact.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/strategies/{artifact.sha256}/")
    page = desk.get(answer["Location"]).content.decode()
    texts = ("momentum-demo 1.0", "fast", "quantity", "decimal", "No revision of any portfolio")
    assert [text for text in texts if text not in page] == []


@pytest.mark.parametrize(
    ("files", "status", "said"),
    [
        ({}, 400, "Choose the wheel"),
        ({"wheel": SimpleUploadedFile("a.txt", b"x")}, 400, "not the name of a wheel"),
        ({"wheel": SimpleUploadedFile("a.whl", b"x"), "lock": SimpleUploadedFile("l", b"\xff")},
         400, "is not text in UTF-8"),
    ],
)  # fmt: skip
def test_refused_upload_shows_the_artifact_page_again_with_the_reason(
    desk: Client, files: dict[str, Any], status: int, said: str
) -> None:
    answer = desk.post("/strategies/", files)
    assert answer.status_code == status
    assert said in answer.content.decode()
    assert "Add an artifact" in answer.content.decode()


def test_too_large_upload_is_refused(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_FORM_BYTES", 100)
    answer = desk.post("/strategies/", {"wheel": SimpleUploadedFile("a.whl", b"x" * 200)})
    assert answer.status_code == 413


def test_upload_is_protected_against_forgery() -> None:
    client = signed_in(Role.OPERATOR, enforce_csrf_checks=True)
    filename, wheel = make_wheel()
    answer = client.post("/strategies/", {"wheel": SimpleUploadedFile(filename, wheel)})
    assert answer.status_code == 403
    assert not Artifact.objects.exists()


def test_viewer_sees_no_form_and_may_not_upload() -> None:
    viewer = signed_in(Role.VIEWER)
    assert "Add an artifact" not in viewer.get("/strategies/").content.decode()
    filename, wheel = make_wheel()
    answer = viewer.post("/strategies/", {"wheel": SimpleUploadedFile(filename, wheel)})
    assert answer.status_code == 403


def test_only_an_artifact_that_no_revision_names_is_deleted(desk: Client) -> None:
    used, unused = store_artifact("1.0"), store_artifact("2.0", code="two")
    make_portfolio("p", strategy="momentum", symbols=["IBM"], artifact=used.sha256)
    assert 'data-portfolio="p"' in desk.get(f"/strategies/{used.sha256}/").content.decode()
    refused = desk.post(f"/strategies/{used.sha256}/delete/")
    assert refused.status_code == 409
    assert "revisions of p (r1) name it" in refused.content.decode()
    assert desk.post(f"/strategies/{unused.sha256}/delete/").status_code == 302
    assert [a.version for a in Artifact.objects.all()] == ["1.0"]
    assert desk.get("/strategies/12345678/").status_code == 404


def test_edit_form_gives_the_portfolio_another_artifact(desk: Client) -> None:
    first, second = store_artifact("1.0"), store_artifact("2.0", code="two")
    make_portfolio("p", strategy="momentum", symbols=["IBM"], artifact=first.sha256)
    key, other = f"momentum@{first.sha256}", f"momentum@{second.sha256}"
    assert f'value="{key}" selected' in desk.get("/portfolios/p/edit/").content.decode()
    fields = {
        "base": EditBase.of(Portfolio.objects.get()).token, "strategy": key, "symbols": "IBM",
        "weight": 1, "priority": 0, "catch_up": "state_only",
    }  # fmt: skip
    desk.post("/portfolios/p/edit/", fields)
    assert Portfolio.objects.get().revision == 1  # nothing was changed
    desk.post("/portfolios/p/edit/", {**fields, "strategy": other, "note": "two"})
    portfolio = Portfolio.objects.get()
    wanted = portfolio.revisions.get(number=portfolio.revision)
    assert (portfolio.revision, wanted.artifact_id, wanted.note) == (2, second.sha256, "two")
    fields["base"] = EditBase.of(portfolio).token
    wrong = desk.post("/portfolios/p/edit/", {**fields, "strategy": "momentum@ffffffff"})
    assert wrong.status_code == 400
    assert 'data-field="strategy"' in wrong.content.decode()
    assert "momentum-demo 2.0" in desk.get("/portfolios/p/").content.decode()
