"""Roll-outs through the API, the command and the dashboard."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import CommandError

from scheduling.management.commands import roll_out as command
from scheduling.models import RollOut
from scheduling.permissions import Role
from tests.support.api_client import ApiClient
from tests.support.commands import said
from tests.support.factories import newest_handoff, owner
from tests.support.pages import signed_in
from tests.support.roll_outs import begun, make_fleet, pinned, prove_all, reload_done, state, step

pytestmark = pytest.mark.django_db


def refused(*arguments: str) -> tuple[str, int]:
    with pytest.raises(CommandError) as caught:
        said("roll_out", *arguments)
    return str(caught.value), caught.value.returncode


def test_api_begins_and_stops_a_roll_out_and_begins_its_way_back(
    operator: ApiClient, viewer: ApiClient
) -> None:
    node, _, second = make_fleet("a", "b", "c")
    body = {"artifact": second.sha256[:12], "portfolios": ["a", "b"], "reason": "faster"}
    answer = operator.post("roll-outs/", body)
    assert answer.status_code == 201
    made = answer.json()
    found = (made["artifact"], made["state"], made["total"], made["ended"])
    assert found == ("momentum-demo 2.0", "running", 2, 0)
    items = [(item["portfolio"], item["canary"], item["state"]) for item in made["items"]]
    assert items == [("a", True, "waiting"), ("b", False, "waiting")]
    address = f"roll-outs/{made['id']}/"
    assert viewer.get(address).json() == made
    assert viewer.post(f"{address}stop/", {}).status_code == 403
    again = operator.post("roll-outs/", body)
    assert (again.status_code, again.json()["code"]) == (409, "roll_out_in_progress")
    assert again.json()["roll_out"] == made["id"]
    nothing = operator.post(f"{address}back/", {}).json()
    assert nothing["detail"] == (
        f"Roll-out {made['id']} has changed no portfolio yet: stop it, there is no way back."
    )
    step()
    node.fails(newest_handoff(owner("a", node).portfolio), strategy=True)
    step()
    listed = viewer.get("roll-outs/?state=stopped&portfolio=b").json()["results"]
    assert [(row["id"], row["ended"], row["total"]) for row in listed] == [(made["id"], 2, 2)]
    assert viewer.get("roll-outs/?active=true").json()["results"] == []
    shown = viewer.preferring("zh-hans").get(address).json()
    assert shown["reason"] == "停在 a：r2 被拒绝：it broke"
    assert shown["items"][0]["why"] == {
        "code": "roll_out_rejected", "params": {"error": "it broke", "revision": "r2"},
    }  # fmt: skip
    back = operator.post(f"{address}back/", {"reason": "bad"})
    assert (back.status_code, back.json()["state"]) == (202, "going_back")
    assert operator.post(f"{address}stop/", {}).json()["code"] == "roll_out_over"


WRONG_FIELDS: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "artifact"),
    ({"artifact": "x"}, "artifact"),
    ({"portfolios": ["a"], "strategy": "buy_and_hold"}, "strategy"),
)


def test_api_names_the_wrong_field_of_a_roll_out_request(operator: ApiClient) -> None:
    _, _, second = make_fleet("a")
    for body, field in WRONG_FIELDS:
        given = {"artifact": second.sha256, **body} if body else body
        answer = operator.post("roll-outs/", given)
        assert answer.status_code == 400
        assert field in {error["field"].split(".")[0] for error in answer.json()["errors"]}
        assert not RollOut.objects.exists()


def test_roll_out_command_begins_a_roll_out_and_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, _, second = make_fleet("a", "b")

    def meanwhile(seconds: float) -> None:
        step()
        for name in ("a", "b"):
            if newest_handoff(owner(name, node).portfolio).state == "preparing":
                reload_done(name, node)
        prove_all()

    monkeypatch.setattr(command, "sleep", meanwhile)
    text = said("roll_out", second.sha256, "--portfolios", "a,b", "--wait")
    number = RollOut.objects.get().pk
    assert "a (canary)" in text
    assert "r1 → r2" in text
    sentence = f"Roll-out {number} of momentum-demo 2.0 is finished, 2 of 2 portfolios are done ("
    assert sentence in text
    assert f"roll_out --back {number}" in text


def test_roll_out_command_exits_with_1_if_its_roll_out_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, _, second = make_fleet("a", "b")

    def meanwhile(seconds: float) -> None:
        step()
        node.fails(newest_handoff(owner("a", node).portfolio), strategy=True)
        step()

    monkeypatch.setattr(command, "sleep", meanwhile)
    sentence, code = refused(second.sha256, "--wait", "5")
    number = RollOut.objects.get().pk
    assert sentence == (
        f"Roll-out {number} of momentum-demo 2.0 is stopped, 2 of 2 portfolios are done: stopped "
        "at a: r2 was rejected: it broke."
    )
    assert code == 1
    assert json.loads(said("roll_out", "--show", str(number), "--json"))["state"] == "stopped"
    assert "going back" in said("roll_out", "--back", str(number))
    step()
    assert (state(number), pinned("a")) == ("back", "1.0")


def test_roll_out_command_that_waits_too_long_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, second = make_fleet("a")
    monkeypatch.setattr(command, "POLL_S", 0.01)
    sentence, code = refused(second.sha256, "--wait", "0.05")
    assert "0 of 1 portfolios are done. It has not ended after 0.05 s, and continues." in sentence
    assert code == 1
    number = str(RollOut.objects.get().pk)
    assert "is stopping" in said("roll_out", "--stop", number, "--reason", "lunch")


def test_roll_out_command_with_no_or_two_actions_exits_with_2() -> None:
    for arguments in ((), ("00aabbcc", "--stop", "3")):
        sentence, code = refused(*arguments)
        assert sentence.startswith("Give an ARTIFACT to roll out, or one of --stop")
        assert code == 2


def test_pages_show_a_roll_out_and_offer_its_actions() -> None:
    node, number = begun("a", "b", canary_seconds=0)
    step()
    reload_done("a", node)
    step()
    client, reader = signed_in(Role.OPERATOR), signed_in(Role.VIEWER)
    listed = client.get("/roll-outs/").content.decode()
    assert f'href="/roll-outs/{number}/"' in listed and ">0/2<" in listed
    page = client.get(f"/roll-outs/{number}/").content.decode()
    assert "Stop…" in page and "Take back…" in page and 'data-state="proving"' in page
    assert 'aria-label="Portfolios that the roll-out has finished with"' in page
    shown = reader.get(f"/roll-outs/{number}/").content.decode()
    assert "Stop…" not in shown and "Take back…" not in shown
    assert reader.post(f"/roll-outs/{number}/stop/").status_code == 403
    dialog = client.get(f"/roll-outs/{number}/back/").content.decode()
    assert "Take roll-out" in dialog
    assert "The roll-out has changed 2 portfolios." in dialog
    assert client.post(f"/roll-outs/{number}/back/", {"reason": "bad"}).status_code == 302
    assert state(number) == "going_back"
    refusal = client.post(f"/roll-outs/{number}/back/", {})
    assert refusal.status_code == 409
    assert "is going back already" in refusal.content.decode()
    for address in ("/roll-outs/99/", "/roll-outs/99/back/", f"/roll-outs/{number}/dance/"):
        assert client.get(address).status_code == 404


def test_form_begins_a_roll_out_and_shows_each_error_at_its_field() -> None:
    _, _, second = make_fleet("a", "b")
    client = signed_in(Role.OPERATOR, "mira")
    assert 'href="/roll-outs/"' in client.get("/strategies/").content.decode()
    link = f'href="/roll-outs/new/?artifact={second.sha256}"'
    assert link in client.get(f"/strategies/{second.sha256}/").content.decode()
    assert second.sha256 in client.get(f"/roll-outs/new/?artifact={second.sha256}").content.decode()
    wrong = client.post("/roll-outs/new/", {"artifact": "0" * 64, "at_a_time": "900"})
    assert wrong.status_code == 400
    text = wrong.content.decode()
    assert 'data-field="artifact"' in text and 'data-field="at_a_time"' in text
    given = {"artifact": second.sha256, "portfolios": "a, b", "canary": "b", "at_a_time": "2"}
    unknown = client.post("/roll-outs/new/", {**given, "canary": "z"})
    assert unknown.status_code == 409
    assert "The canary z is not among the 2" in unknown.content.decode()
    answer = client.post("/roll-outs/new/", {**given, "canary_seconds": "5", "reason": "faster"})
    found = RollOut.objects.get()
    assert answer.headers["Location"] == f"/roll-outs/{found.pk}/"
    assert (found.at_a_time, found.canary_s, found.note) == (2, 5.0, "faster")
    assert found.requested_by == "mira"
    assert list(found.items.values_list("portfolio__name", flat=True)) == ["b", "a"]
