"""Secrets are stored encrypted, shown by name only, and in no configuration."""

from __future__ import annotations

import io
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError
from django.db import connection

from ginkgo_site import encryption_keys
from ginkgo_site.launcher import bootstrap
from portfolios import strategy_inspection
from portfolios.models import Portfolio, Secret
from scheduling.errors import NotFound
from scheduling.models import Event
from scheduling.operations import secrets
from scheduling.operations.secrets import SecretUnreadable, read_secret, set_secret
from scheduling.permissions import Role
from tests.support.api_client import ApiClient, make_user
from tests.support.commands import said
from tests.support.pages import signed_in

pytestmark = pytest.mark.django_db
VALUE = "sk-live-4eC39HqLyjW"


@pytest.fixture
def key_file(tmp_path: Path, settings: Any) -> Path:
    file = tmp_path / "secrets" / "encryption_keys"
    settings.GINKGO = replace(settings.GINKGO, encryption_keys_file=file, encryption_keys=())
    encryption_keys.make_file(file)
    return file


def run(*arguments: str, value: str | bytes = "", monkeypatch: Any = None) -> str:
    if monkeypatch is not None:
        raw = io.BytesIO(value.encode() if isinstance(value, str) else value)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8"))
    return said("secret", *arguments)


def everything_stored() -> str:
    """Return all rows of the tables that a secret could leak into."""
    with connection.cursor() as cursor:
        found = []
        for table in ("portfolios_secret", "scheduling_event", "portfolios_revision"):
            cursor.execute(f"SELECT to_jsonb(t)::text FROM {table} t")  # nosec B608 - constants
            found += [row[0] for row in cursor.fetchall()]
    return "\n".join(found)


# --- encryption ----------------------------------------------------------------------------------


def test_a_key_file_is_private_and_made_once(key_file: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    before = key_file.read_text()
    encryption_keys.make_file(key_file)
    assert key_file.read_text() == before
    assert list(key_file.parent.iterdir()) == [key_file]


def test_a_key_file_that_others_may_read_is_refused_with_what_helps(key_file: Path) -> None:
    set_secret("broker-key", VALUE, actor="ann")
    for mode in (0o600, 0o440):
        key_file.chmod(mode)
        assert read_secret("broker-key", used_by="source of feed fx") == VALUE
    for mode in (0o644, 0o660, 0o604):
        key_file.chmod(mode)
        with pytest.raises(encryption_keys.KeysUnavailable) as refused:
            encryption_keys.read_file(key_file)
        assert f"(mode {mode:o}): run chmod 600 {key_file}." in str(refused.value)


def test_a_value_is_stored_encrypted_and_read_back(key_file: Path) -> None:
    set_secret("broker-key", VALUE, actor="ann")
    assert VALUE not in everything_stored()
    assert read_secret("broker-key", used_by="source of feed fx") == VALUE
    row = Secret.objects.get()
    assert (row.set_by, row.last_used_by) == ("ann", "source of feed fx")
    used = row.last_used_at
    read_secret("broker-key", used_by="another")
    assert Secret.objects.get().last_used_at == used  # within the minute
    set_secret("broker-key", "other", actor="bob")
    assert read_secret("broker-key", used_by="x") == "other"
    kinds = Event.objects.filter(kind="secret_set").order_by("id").values_list("actor", "data")
    assert list(kinds) == [
        ("ann", {"name": "broker-key", "replaced": False}),
        ("bob", {"name": "broker-key", "replaced": True}),
    ]


def test_a_ciphertext_copied_to_another_name_is_refused(key_file: Path) -> None:
    for name in ("one", "two"):
        set_secret(name, name, actor="ann")
    Secret.objects.filter(name="two").update(ciphertext=Secret.objects.get(name="one").ciphertext)
    wrong = "The row of the secret two holds the value of 'one'"
    with pytest.raises(SecretUnreadable, match=wrong):
        read_secret("two", used_by="x")


def test_rotation_keeps_values_and_needs_no_old_key(key_file: Path) -> None:
    set_secret("one", VALUE, actor="ann")
    before = Secret.objects.get().ciphertext
    key_file.chmod(0o640)  # other processes read it as its group
    assert secrets.rotate_secrets(actor="ann", new_key=True) == 1
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o640
    assert [each.name for each in key_file.parent.iterdir()] == [key_file.name]
    new, old = key_file.read_text().split()
    assert Secret.objects.get().ciphertext != before
    key_file.write_text(new)
    assert read_secret("one", used_by="x") == VALUE
    key_file.write_text(old)
    with pytest.raises(SecretUnreadable) as unreadable:
        read_secret("one", used_by="x")
    assert unreadable.value.message == (
        "The secret one cannot be decrypted: it was encrypted under a key that is not among the "
        "present ones. Add that key after them, or set the secret again."
    )
    assert VALUE not in everything_stored()


def test_rotation_with_a_missing_key_changes_nothing(key_file: Path) -> None:
    set_secret("one", "1", actor="ann")
    known = key_file.read_text()
    key_file.write_text(encryption_keys.new_key())
    set_secret("two", "2", actor="ann")
    before = dict(Secret.objects.values_list("name", "ciphertext"))
    with pytest.raises(SecretUnreadable, match="The secret one cannot be decrypted"):
        secrets.rotate_secrets(actor="ann")
    assert dict(Secret.objects.values_list("name", "ciphertext")) == before
    assert known


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "There is no key for secrets: {file} does not exist. Restore it from its backup"),
        ("", "{file} has no key for secrets. Restore it from its backup"),
        (
            "# mine\nhunter2\n",
            "Line 2 of {file} is not a key: a key is 32 bytes as URL-safe base64",
        ),
        ("é", "The keys for secrets in {file} cannot be read: it is not ASCII text."),
    ],
)
def test_error_about_unusable_encryption_keys_shows_no_key(
    key_file: Path, content: str | None, sentence: str
) -> None:
    key_file.unlink() if content is None else key_file.write_text(content)
    with pytest.raises(SecretUnreadable) as unreadable:
        set_secret("one", VALUE, actor="ann")
    assert unreadable.value.message.startswith(sentence.format(file=key_file))
    assert "hunter2" not in unreadable.value.message
    assert not Secret.objects.exists()


def test_encryption_keys_of_the_environment_take_precedence_over_the_key_file(
    key_file: Path, settings: Any
) -> None:
    key = Fernet.generate_key().decode()
    settings.GINKGO = replace(settings.GINKGO, encryption_keys=(key,))
    set_secret("one", VALUE, actor="ann")
    assert json.loads(Fernet(key).decrypt(Secret.objects.get().ciphertext)) == ["one", VALUE]
    assert key not in repr(settings.GINKGO)
    settings.GINKGO = replace(settings.GINKGO, encryption_keys=("short",))
    with pytest.raises(SecretUnreadable, match="Entry 1 of GINKGO_ENCRYPTION_KEYS is not a key"):
        read_secret("one", used_by="x")


# --- interfaces ----------------------------------------------------------------------------------


def test_the_command_reads_the_value_from_standard_input(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run("set", "broker-key", value=f"{VALUE}\n", monkeypatch=monkeypatch)
    assert shown == "The secret broker-key is set.\n"
    assert read_secret("broker-key", used_by="x") == VALUE
    listed = run("list") + run("list", "--json")
    assert "broker-key" in listed
    assert VALUE not in listed
    assert Secret.objects.get().ciphertext not in listed
    assert run("rotate").startswith("1 secret is encrypted under the newest key.")
    assert run("delete", "broker-key") == "The secret broker-key is deleted.\n"
    with pytest.raises(NotFound):
        read_secret("broker-key", used_by="x")
    assert Fernet(run("key").strip())


INVALID_INPUT = (
    (("set", "No Slug"), "x", "'No Slug' is not a valid name"),
    (("set", "one"), "", "the value has 0 characters; give 1 to 8,000."),
    (("set", "one"), "x" * 9_000, "the value has 8,003 characters"),
    (("set", "one"), b"\xff\xfe", "the value is not UTF-8 text."),
    (("delete", "one"), "", "There is no secret named one."),
)


@pytest.mark.usefixtures("key_file")
def test_command_refuses_invalid_input_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, value, sentence in INVALID_INPUT:
        with pytest.raises(CommandError, match=sentence.replace("(", r"\(")):
            run(*arguments, value=value, monkeypatch=monkeypatch)
        assert not Secret.objects.exists()


def test_api_accepts_secret_values_and_returns_none(
    key_file: Path, operator: ApiClient, viewer: ApiClient, nobody: ApiClient
) -> None:
    answer = operator.post("secrets/", {"name": "feed-token", "value": f" {VALUE}\u202e "})
    assert answer.status_code == 200
    assert read_secret("feed-token", used_by="x") == f" {VALUE}\u202e "
    listed = operator.get("secrets/")
    (row,) = listed.json()["results"]
    assert set(row) == {"name", "set_at", "set_by", "last_used_at", "last_used_by"}
    assert (row["name"], row["set_by"], row["last_used_by"]) == ("feed-token", "olive", "x")
    for text in (answer.content.decode(), listed.content.decode(), everything_stored()):
        assert VALUE not in text
    bad = operator.post("secrets/", {"name": "Bad Name", "value": VALUE})
    assert (bad.status_code, VALUE in bad.content.decode()) == (400, False)
    for refused in (
        viewer.get("secrets/"),
        viewer.post("secrets/", {"name": "x", "value": "x"}),
        viewer.delete("secrets/feed-token/"),
    ):
        assert refused.status_code == 403
    assert nobody.get("secrets/").status_code == 401
    assert operator.delete("secrets/feed-token/").status_code == 204
    assert operator.delete("secrets/feed-token/").status_code == 404


def test_missing_encryption_key_is_a_problem_document(key_file: Path, operator: ApiClient) -> None:
    key_file.unlink()
    answer = operator.post("secrets/", {"name": "one", "value": VALUE})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_key")


def test_admin_shows_names_of_secrets_to_operators_only(key_file: Path) -> None:
    set_secret("broker-key", VALUE, actor="ann")
    client = signed_in(Role.OPERATOR, "olive")
    for path in ("secret/", "secret/broker-key/change/"):
        page = client.get(f"/admin/portfolios/{path}")
        assert (page.status_code, "broker-key" in page.content.decode()) == (200, True)
        assert Secret.objects.get().ciphertext not in page.content.decode()
    client.force_login(make_user("vera", Role.VIEWER))
    assert client.get("/admin/portfolios/secret/").status_code == 403


# --- configurations ------------------------------------------------------------------------------


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GINKGO_STRATEGIES", "chaos.faults.faulty_strategies")
    strategy_inspection._check_in_process.cache_clear()


@pytest.mark.usefixtures("keyed")
def test_secret_parameter_in_a_configuration_is_refused_and_never_shown(
    operator: ApiClient, viewer: ApiClient
) -> None:
    body = {"name": "p", "strategy": "keyed", "symbols": ["IBM"]}
    refused = operator.post("portfolios/", {**body, "config": {"api_key": VALUE}})
    assert refused.status_code == 400
    (error,) = refused.json()["errors"]
    assert (error["field"], error["code"]) == ("config.api_key", "secret")
    assert error["message"] == (
        "api_key is a secret, and every viewer can read a configuration: leave it out. Strategies "
        "get no secrets."
    )
    assert not Portfolio.objects.exists()
    assert operator.post("portfolios/", {**body, "config": {"quantity": 2}}).status_code == 201
    changed = operator.patch("portfolios/p/", {"config": {"quantity": 2, "api_key": VALUE}})
    assert changed.status_code == 400
    for text in (refused.content, changed.content, viewer.get("portfolios/p/").content):
        assert VALUE not in text.decode()
    assert VALUE not in everything_stored()


# --- start ---------------------------------------------------------------------------------------


def test_a_start_creates_encryption_keys_unless_stored_secrets_need_lost_ones(
    key_file: Path,
) -> None:
    key_file.unlink()
    bootstrap._make_encryption_keys()
    set_secret("one", VALUE, actor="ann")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key_file.unlink()
    bootstrap._make_encryption_keys()
    assert not key_file.exists()
    with pytest.raises(SecretUnreadable, match="does not exist"):
        read_secret("one", used_by="x")
