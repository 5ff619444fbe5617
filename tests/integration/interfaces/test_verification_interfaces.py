"""Requested verifications: how many run at once, and that none stays in progress forever."""

from __future__ import annotations

import json
import os
import re
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import F
from django.test import Client
from django.utils import translation
from django_q.models import OrmQ

from portfolios.models import Checkpoint
from portfolios.runtime.worker import PortfolioWorker
from scheduling import operations
from scheduling.db.transaction import Row, execute
from scheduling.errors import Refused
from scheduling.models import Event, Run, Verification
from scheduling.permissions import Role
from scheduling.verification import runner, verify
from scheduling.verification.queue import claim, finish, record_progress
from scheduling.verification.runner import run_waiting
from scheduling.verification.verify import verify_portfolio
from tests.support.api_client import ApiClient, problem
from tests.support.concurrency import Held, behind
from tests.support.factories import ago, make_node, make_portfolio, make_running_portfolio
from tests.support.kept_rows import KeptRows
from tests.support.pages import signed_in
from tests.support.patches import raising

pytestmark = pytest.mark.django_db

PATH = "portfolios/canary-1/verification/"


CANARY = KeptRows(lambda: make_running_portfolio("canary-1", make_node("node-1"), events=500))


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    """Let canary-1 have run for 500 events, and replay in this process."""
    monkeypatch.setattr(
        verify, "replay_processes", lambda *_, **__: nullcontext(PortfolioWorker().answer)
    )
    with transaction.atomic():
        CANARY.get()


def claimed(runner: UUID) -> Row:
    """Let a runner claim the verification that has waited longest."""
    found = execute(claim(runner))
    assert found is not None
    return found


def aged(seconds: float, *fields: str) -> None:
    """Let so much time have passed since what these fields tell."""
    past = timedelta(seconds=seconds)
    Verification.objects.update(**{field: F(field) - past for field in fields})


def test_a_requested_verification_is_queued_run_and_shown_until_the_next_request(
    operator: ApiClient, viewer: ApiClient
) -> None:
    document = viewer.get(PATH).json()
    assert (document["state"], document["id"], document["difference"]) == ("never", None, None)
    assert document["sentence"] == "canary-1 has not been verified yet."
    answer = operator.post(PATH)
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["state"], asked["requested_by"]) == ("waiting", "olive")
    assert [task.func() for task in OrmQ.objects.all()] == ["scheduling.tasks.verify"]
    assert run_waiting() == 1
    document = viewer.get(PATH).json()
    assert document["state"] == "identical"
    assert document["sentence"].startswith("identical over 500 events, 0 orders")
    assert (document["id"], document["progress"], document["events"]) == (asked["id"], 1.0, 500)
    assert len(document["state_digest"]) == 64
    assert document["finished_at"] >= document["started_at"] >= document["requested_at"]
    kinds = Event.objects.filter(portfolio__name="canary-1", kind__startswith="verif")
    found = list(kinds.order_by("id").values_list("kind", "actor"))
    assert found == [("verification_requested", "olive"), ("verified", "")]
    aged(3_000, "heard_at", "requested_at")
    assert operator.get(PATH).json()["state"] == "identical"
    operator.post(PATH)
    assert operator.get(PATH).json()["state"] == "waiting"


def test_a_difference_is_shown_with_its_place(operator: ApiClient) -> None:
    Checkpoint.objects.update(state=b"nonsense")
    operator.post(PATH)
    run_waiting()
    document = operator.get(PATH).json()
    assert (document["state"], document["difference"]["kind"]) == ("different", "state")
    assert document["difference"]["where"].startswith("epoch 1 on node-1, r1 by place")
    client = signed_in(Role.OPERATOR)
    text = pane(client)
    assert 'data-state="different"' in text
    for word in ('<th scope="row">field</th> <td>content</td>', "unreadable", "epoch 1 on node-1"):
        assert word in text
    headers = {"Accept-Language": "zh-hans"}
    with translation.override("en"):  # the request leaves its own language behind
        shown = client.get("/portfolios/canary-1/", headers=headers).content.decode()
    assert re.search(r'<td class="wrap">seq \d+ 之后的状态</td>', shown)
    assert '<td class="wrap secondary">纪元 1，在 node-1 上，r1，' in shown


def test_a_verification_that_is_impossible_fails_with_the_reason(operator: ApiClient) -> None:
    make_portfolio("idle")
    operator.post("portfolios/idle/verification/")
    run_waiting()
    document = operator.get("portfolios/idle/verification/").json()
    assert document["state"] == "failed"
    assert "it has committed no event yet" in document["sentence"]


def test_an_internal_error_fails_the_verification_and_is_stored_as_its_sentence(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "verify_portfolio", raising(RuntimeError("no more disk")))
    operator.post(PATH)
    with pytest.raises(RuntimeError):
        run_waiting()
    document = operator.get(PATH).json()
    assert (document["state"], document["sentence"]) == ("failed", "RuntimeError: no more disk")


def test_second_request_is_refused_with_the_id_of_the_verification_in_progress(
    operator: ApiClient,
) -> None:
    first = operator.post(PATH).json()["id"]
    assert problem(operator.post(PATH), 409, "verification_in_progress")["verification"] == first
    assert OrmQ.objects.count() == 1
    run_waiting()
    assert operator.post(PATH).status_code == 202


def test_running_verifications_are_limited_and_the_oldest_goes_first(operator: ApiClient) -> None:
    for name in ("two", "three"):
        make_portfolio(name)
    for name in ("canary-1", "two", "three"):
        operator.post(f"portfolios/{name}/verification/")
    names = [found.name for _ in range(2) if (found := execute(claim(uuid4(), 2))) is not None]
    assert names == ["canary-1", "two"]
    assert execute(claim(uuid4(), 2)) is None
    assert Verification.objects.get(portfolio__name="three").state == "waiting"


def test_as_many_verifications_run_at_once_as_there_are_processors(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert runner.max_parallel() == 3
    monkeypatch.setattr(runner, "max_parallel", lambda: 2)
    make_portfolio("two")
    operator.post("portfolios/two/verification/")
    assert execute(claim(uuid4())) is not None  # another runner's
    operator.post(PATH)
    assert run_waiting() == 1
    assert operator.get(PATH).json()["state"] == "identical"


def test_progress_of_a_verification_is_shown_while_running_and_after_a_failure(
    operator: ApiClient,
) -> None:
    operator.post(PATH)
    me = uuid4()
    asked = claimed(me)
    assert operator.get(PATH).json()["sentence"] == "Reads the log."
    assert execute(record_progress(asked.id, me, 101, 350, 600))
    document = operator.get(PATH).json()
    assert (document["state"], document["progress"]) == ("running", 0.5)
    assert document["sentence"] == "Identical so far, at seq 350 of 600."
    assert execute(finish(asked.id, me, "failed", "no more disk", {}))
    document = operator.get(PATH).json()
    assert (document["state"], document["progress"]) == ("failed", 0.5)


def test_a_verification_with_a_silent_runner_fails_and_may_be_requested_again(
    operator: ApiClient,
) -> None:
    operator.post(PATH)
    me = uuid4()
    asked = claimed(me)
    aged(91, "heard_at")
    document = operator.get(PATH).json()
    assert document["state"] == "failed"
    assert document["sentence"] == "Its runner was not heard of for 90 s; verify again."
    assert operator.post(PATH).status_code == 202
    # The one that was taken for dead wakes up: what it says counts no more.
    assert not execute(record_progress(asked.id, me, 1, 2, 3))
    assert not execute(finish(asked.id, me, "identical", "so it was", {}))
    ended = Verification.objects.get(pk=asked.id)
    assert (ended.state, ended.sentence) == ("failed", document["sentence"])


def test_a_verification_that_no_worker_claims_fails_with_what_to_check(operator: ApiClient) -> None:
    operator.post(PATH)
    aged(121, "requested_at")
    document = operator.get(PATH).json()
    assert document["state"] == "failed"
    assert "look whether the worker runs" in document["sentence"]
    assert operator.post(PATH).status_code == 202


def test_a_verification_that_waited_for_a_long_one_is_claimed_when_that_ends(
    operator: ApiClient,
) -> None:
    make_portfolio("two")
    operator.post(PATH)
    operator.post("portfolios/two/verification/")
    me = uuid4()
    long = claimed(me)
    Verification.objects.filter(portfolio__name="two").update(requested_at=ago(3_000))
    assert operator.get("portfolios/two/verification/").json()["state"] == "waiting"
    Verification.objects.filter(pk=long.id).update(heard_at=ago(130))
    assert execute(finish(long.id, me, "identical", "so it was", {}))
    assert operator.get("portfolios/two/verification/").json()["state"] == "waiting"
    assert claimed(me).name == "two"


def test_a_verification_fails_unless_its_own_runner_reports_progress(operator: ApiClient) -> None:
    operator.post(PATH)
    me = uuid4()
    asked = claimed(me)
    aged(60, "heard_at")
    assert not execute(record_progress(asked.id, uuid4(), 1, 2, 3))
    assert not execute(finish(asked.id, uuid4(), "identical", "so it was", {}))
    assert execute(record_progress(asked.id, me, 1, 2, 3))
    aged(60, "heard_at")
    assert operator.get(PATH).json()["state"] == "running"
    aged(60, "heard_at")
    assert operator.get(PATH).json()["state"] == "failed"


def test_a_verification_without_progress_does_not_block_the_waiting_ones(
    operator: ApiClient,
) -> None:
    make_portfolio("two")
    operator.post(PATH)
    operator.post("portfolios/two/verification/")
    assert execute(claim(uuid4())) is not None
    Verification.objects.filter(state="running").update(heard_at=ago(91))
    assert claimed(uuid4()).name == "two"


@pytest.mark.django_db(transaction=True)
def test_two_concurrent_runners_claim_one_verification_at_a_time(operator: ApiClient) -> None:
    make_portfolio("two")
    operator.post(PATH)
    operator.post("portfolios/two/verification/")
    mine, other = uuid4(), uuid4()
    held = Held(claim(mine))
    assert behind(held, lambda: execute(claim(other))) is None
    (running,) = Verification.objects.filter(state="running")
    assert (running.id, running.runner) == (held.outcome.id, mine)


def test_a_runner_that_was_taken_for_dead_stops_and_writes_nothing(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_on: list[int] = []

    def slow(portfolio: int, progress: Any, **how: Any) -> None:
        Verification.objects.update(state="failed", sentence="taken for dead")
        progress(1, 2, 3)
        went_on.append(portfolio)

    monkeypatch.setattr(runner, "verify_portfolio", slow)
    operator.post(PATH)
    assert run_waiting() == 1
    assert went_on == []
    assert Verification.objects.get().sentence == "taken for dead"


def test_a_runner_runs_all_waiting_verifications_and_stores_its_progress(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []

    def told(portfolio: int, progress: Any, **how: Any) -> Any:
        progress(1, 2, 3)
        seen.append(Verification.objects.get(portfolio=portfolio).at_seq)
        raise Refused("cannot_verify", "enough")

    monkeypatch.setattr(runner, "verify_portfolio", told)
    make_portfolio("two")
    operator.post(PATH)
    operator.post("portfolios/two/verification/")
    assert run_waiting() == 2
    assert seen == [2, 2]
    assert set(Verification.objects.values_list("state", "sentence")) == {("failed", "enough")}


def test_verification_of_a_deleted_portfolio_is_not_that_of_a_new_one_with_its_name(
    operator: ApiClient,
) -> None:
    operator.post(PATH)
    operations.delete_portfolio("canary-1", actor="ann")
    make_running_portfolio("canary-1", make_node("node-2"), events=300)
    assert run_waiting() == 1
    asked = Verification.objects.get()
    assert (asked.state, asked.verdict["events"]) == ("identical", 500)
    assert "canary-1 was deleted at" in asked.verdict["notes"][0]
    assert operator.get(PATH).json()["state"] == "never"
    assert verify_portfolio("canary-1").compared.counts.events == 300


@pytest.mark.parametrize(
    ("state", "code"), [("failed", "cannot_verify"), ("different", "different")]
)
def test_verification_of_all_says_different_only_if_something_differs(
    state: str, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"portfolio": "canary-1", "state": state}
    command = "scheduling.management.commands.verify_portfolio._verify"
    monkeypatch.setattr(command, lambda *_: document)
    with pytest.raises(CommandError, match="Not identical: 1 of 1 portfolio: canary-1"):
        call_command("verify_portfolio", "--all", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["code"], told["without_events"]) == (code, 0)


# --- the page ------------------------------------------------------------------------------------


def pane(client: Client) -> str:
    """Return the pane of the portfolio's page."""
    text = " ".join(client.get("/portfolios/canary-1/").content.decode().split())
    return text.partition('<section class="pane" id="verification"')[2].partition("</section>")[0]


def test_portfolio_page_shows_a_verify_button_then_progress_then_the_verdict() -> None:
    client = signed_in(Role.OPERATOR)
    assert re.search(r"<span>\s*Verify\s*</span>", pane(client))
    address = "http://testserver/portfolios/canary-1/"
    answer = client.post("/portfolios/canary-1/verify/", headers={"Referer": address})
    assert (answer.status_code, answer["Location"]) == (302, address)
    going = pane(client)
    assert "<progress" in going and "You can leave this page" in going and "<button" not in going
    run_waiting()
    done = pane(client)
    assert "identical over 500 events" in done and "Verify again" in done
    assert "<progress" not in done


def test_the_command_reports_a_history_difference_too() -> None:
    Checkpoint.objects.update(state=b"nonsense")
    Run.objects.update(node=make_node("node-3").row)
    with pytest.raises(CommandError) as caught:
        call_command("verify_portfolio", "canary-1")
    first, second = str(caught.value).splitlines()
    assert first.startswith("different at seq ") and "unreadable" in first
    assert second.startswith("history differs: ") and second.endswith("the run has node-3")


def test_viewer_sees_the_verification_pane_without_a_button() -> None:
    client = signed_in(Role.VIEWER)
    assert "Not verified yet" in pane(client) and "<button" not in pane(client)
    assert client.post("/portfolios/canary-1/verify/").status_code == 403
