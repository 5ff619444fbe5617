"""The queue runs the product's tasks and nothing else, however a row was written."""

from __future__ import annotations

import inspect
import multiprocessing
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import Failure, OrmQ, Schedule, Success, Task
from django_q.monitor import monitor
from django_q.queues import Queue
from django_q.scheduler import scheduler
from django_q.signing import SignedPackage
from django_q.worker import worker

from scheduling import apps, tasks
from scheduling.db.transaction import execute
from scheduling.enact.alerts import update_alerts
from scheduling.models import Alert, Event
from scheduling.permissions import ADMINISTRATOR_GROUP, Role
from scheduling.timing import timing
from tests.support.api_client import make_user
from tests.support.pages import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the connection of the test's transaction, which the loops of the queue would close."""
    for module in ("scheduler", "worker", "monitor"):
        monkeypatch.setattr(f"django_q.{module}.close_old_django_connections", lambda: None)
    monkeypatch.setattr("django_q.worker.TimeoutHandler", lambda _: nullcontext())


INSERT = """
INSERT INTO django_q_schedule (name, func, hook, args, kwargs, schedule_type, repeats, next_run)
VALUES ('evil', %s, %s, %s, %s, 'O', -1, now() - interval '1 minute')
"""


def schedule_row(func: str, *, hook: str | None = None, args: str = "", kwargs: str = "") -> None:
    """Write a schedule as somebody with a connection to the database would."""
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [func, hook, args, kwargs])


def work_off() -> list[dict[str, Any]]:
    """Turn due schedules into tasks and run them by the worker's and monitor's own loops."""
    broker = get_broker()
    Schedule.objects.exclude(name="evil").delete()
    scheduler(broker)
    packages = broker.dequeue() if OrmQ.objects.exists() else []
    return run_packages([(key, SignedPackage.loads(payload)) for key, payload in packages or []])


def run_packages(packages: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    todo, done, results = Queue(), Queue(), Queue()
    for key, task in packages:
        todo.put({**task, "ack_id": key, "cluster": "ginkgo"})
    todo.put("STOP")
    worker(todo, done, multiprocessing.Value("f", -1))
    finished = [done.get() for _ in packages]
    for task in finished:
        results.put(task)
    results.put("STOP")
    monitor(results, get_broker())
    return finished


def test_a_schedule_written_by_sql_runs_no_program(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    schedule_row("subprocess.check_output", args=f"(['touch', '{witness}'],)")
    (task,) = work_off()
    assert not witness.exists()
    assert not task["success"]
    assert "subprocess.check_output" in task["result"]
    line = Event.objects.get(kind="task_refused")
    assert line.data["func"] == "subprocess.check_output"
    assert "not a task" in line.reason
    assert not OrmQ.objects.exists()


def test_a_synchronous_schedule_runs_no_program_in_the_scheduler(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    at_once = "{'q_options': {'sync': True}}"
    schedule_row("subprocess.check_output", args=f"(['touch', '{witness}'],)", kwargs=at_once)
    work_off()
    assert not witness.exists()
    assert Event.objects.filter(kind="task_refused").count() == 1


def test_a_hook_or_chain_on_one_of_our_own_tasks_is_refused() -> None:
    schedule_row("scheduling.tasks.verify", hook=f"{__name__}.hooked")
    (task,) = work_off()
    assert not task["success"]
    assert "hook" in task["result"]
    assert Task.objects.get().hook is None


def test_an_unregistered_task_in_the_queue_is_refused_by_the_worker(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    package = {
        "id": "0" * 32, "name": "evil", "func": "subprocess.check_output",
        "args": (["touch", str(witness)],), "kwargs": {}, "started": timezone.now(),
    }  # fmt: skip
    (task,) = run_packages([(1, package)])
    assert not witness.exists()
    assert not task["success"]
    assert Event.objects.get(kind="task_refused").data["func"] == "subprocess.check_output"


def test_a_refused_schedule_delays_no_other_and_is_recorded_once() -> None:
    Schedule.objects.all().delete()
    for _ in range(3):
        schedule_row("os.system", args="('true',)")
    schedule_row("scheduling.tasks.prune")
    done = work_off()
    while OrmQ.objects.exists():
        rows = OrmQ.objects.all()
        done += run_packages([(row.pk, SignedPackage.loads(row.payload)) for row in rows])
    assert sorted(task["success"] for task in done) == [False, False, False, True]
    assert Event.objects.filter(kind="task_refused").count() == 1


def test_a_pickle_in_the_results_is_never_read() -> None:
    """Success rows are neither kept nor read: django-q2 would unpickle each at the next success."""
    apps.install_schedules(None)
    Schedule.objects.filter(name="prune").update(name="evil", next_run=timezone.now())
    (task,) = work_off()
    assert task["success"], task
    assert not Success.objects.exists()


def test_every_installed_schedule_is_a_task_that_may_run() -> None:
    from scheduling.task_registry import TASKS, refusal

    apps.install_schedules(None)
    functions = set(Schedule.objects.values_list("func", flat=True))
    assert functions <= TASKS
    # A release that adds one is refused by the workers of the one before, which run beside it.
    assert {function.rpartition(".")[2] for function in functions} == {
        "balance", "deliver_alerts", "heartbeat_sweep", "prune", "verify_in_background",
    }  # fmt: skip
    public = [
        f"{tasks.__name__}.{name}"
        for name, function in inspect.getmembers(tasks, inspect.isfunction)
        if function.__module__ == tasks.__name__ and not name.startswith("_")
    ]
    assert sorted(TASKS) == public
    assert not any(refusal({"func": function}) for function in functions)
    assert refusal({"func": tasks.Scheduler})
    assert refusal({"func": "scheduling.tasks.Scheduler"})


def test_an_unknown_schedule_is_one_alert_until_it_is_gone() -> None:
    for _ in range(3):
        schedule_row("os.system", args="('true',)")
    execute(update_alerts(timing()))
    alert = Alert.objects.get(kind="unknown_schedule")
    assert "os.system" in alert.reason
    assert "3" in alert.reason
    Schedule.objects.filter(name="evil").delete()
    execute(update_alerts(timing()))
    alert.refresh_from_db()
    assert alert.closed_at is not None


def test_the_queue_is_read_only_in_the_admin_for_a_superuser_too() -> None:
    client = signed_in(superuser=True)
    schedule_row("os.system")
    for model in ("schedule", "success", "failure", "ormq"):
        listed = client.get(reverse(f"admin:django_q_{model}_changelist"))
        assert listed.status_code == 200
        assert b"Resubmit" not in listed.content
        assert client.get(reverse(f"admin:django_q_{model}_add")).status_code == 403
        if model == "schedule":
            row = Schedule.objects.get(name="evil")
            change = reverse("admin:django_q_schedule_change", args=[row.pk])
            assert client.get(change).status_code == 200
            assert client.post(change, {"func": "os.abort"}).status_code == 403
            delete = reverse("admin:django_q_schedule_delete", args=[row.pk])
            assert client.post(delete, {"post": "yes"}).status_code == 403


def test_admin_page_of_a_failed_task_reads_no_pickle() -> None:
    now = timezone.now()
    Failure.objects.create(id="1" * 32, name="n", func="f", started=now, stopped=now, success=False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_q_task SET args = 'no pickle', result = 'no pickle'")
    page = signed_in(superuser=True).get(reverse("admin:django_q_failure_change", args=["1" * 32]))
    assert page.status_code == 200
    assert b"no pickle" not in page.content


# --- who may what in the admin --------------------------------------------------------------------


def an_administrator() -> Client:
    person = make_user("ada")
    person.groups.add(Group.objects.get(name=ADMINISTRATOR_GROUP))
    client = Client()
    client.force_login(person)
    return client


def test_an_administrator_creates_users_but_no_superusers() -> None:
    apps.install_groups(None)
    client, root, other = an_administrator(), make_user("root", superuser=True), make_user("olive")
    operators = Group.objects.get(name=Role.OPERATOR)
    change = reverse("admin:auth_user_change", args=[other.pk])
    page = client.get(change)
    assert page.status_code == 200
    assert b"is_superuser" not in page.content
    assert b"user_permissions" not in page.content
    form = {"username": "olive", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    times = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    answer = client.post(change, {**form, **times, "groups": [operators.pk]})
    assert answer.status_code == 302, answer.content
    other.refresh_from_db()
    assert not other.is_superuser
    assert list(other.groups.all()) == [operators]
    assert client.post(reverse("admin:auth_user_change", args=[root.pk]), form).status_code == 403
    password = reverse("admin:auth_user_password_change", args=[root.pk])
    assert client.post(password, {"password1": "x", "password2": "x"}).status_code == 403
    group = reverse("admin:auth_group_change", args=[operators.pk])
    assert client.post(group, {"name": "operator", "permissions": []}).status_code == 403


def test_an_operator_sees_no_users() -> None:
    client = signed_in(Role.OPERATOR, "olive")
    assert client.get(reverse("admin:auth_user_changelist")).status_code == 403
