"""Set, delete and rotate secrets, and read one for the part of Ginkgo that needs it.

A value enters here and leaves by `read_secret` alone: never into a log, an error, the audit log, a
configuration or a process that runs strategies.
"""

from __future__ import annotations

import json
from datetime import timedelta

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ginkgo_site import encryption_keys
from ginkgo_site.encryption_keys import KEYS_VARIABLE, KeysUnavailable
from portfolios.models import Secret
from portfolios.sentences import sentence as _
from portfolios.text import quoted
from portfolios.validation import NAME
from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.operations.lookup import existing

MAX_VALUE = 8_000  #: characters
MAX_SECRETS = 1_000
USE_INTERVAL = timedelta(minutes=1)  #: between two records of the last use


class SecretUnreadable(Refused):
    """There is no usable key, or none under which the stored value is that of the secret."""

    def __init__(self, message: str) -> None:
        super().__init__("no_key", message)


def set_secret(name: str, value: str, *, actor: str) -> Secret:
    """Store the value of a secret, new or replaced, and return its row.

    Raise Invalid, SecretUnreadable without a key, or Refused if there are MAX_SECRETS already.
    """
    _check_secret(name, value)
    ciphertext = _encrypt(name, value)
    with transaction.atomic():
        # Concurrent writer: a request that sets a secret of the same name. It waits for this row.
        found, created = Secret.objects.update_or_create(
            name=name,
            defaults={"ciphertext": ciphertext, "set_at": timezone.now(), "set_by": actor[:150]},
        )
        if created and Secret.objects.count() > MAX_SECRETS:
            message = _(
                "There are {max_secrets:,} secrets, which is the limit: delete one.",
                max_secrets=MAX_SECRETS,
            )
            raise Refused("too_many", message)
        execute(audit("secret_set", actor=actor, name=name, replaced=not created))
    return found


@transaction.atomic
def delete_secret(name: str, *, actor: str, reason: str = "") -> None:
    """Delete the secret of this name. Raise NotFound."""
    gone, _ = Secret.objects.filter(name=name).delete()
    if not gone:
        raise NotFound("secret", name)
    execute(audit("secret_deleted", actor=actor, reason=reason, name=name))


def rotate_secrets(*, actor: str, new_key: bool = False) -> int:
    """Encrypt every secret anew under the newest key; return how many.

    With `new_key` a new key becomes the newest of the file. Older keys stay in it: a backup of the
    database needs them. A failure leaves all secrets readable, and the rotation may be repeated.
    Raise SecretUnreadable, with no secret changed, if one cannot be decrypted.
    """
    with transaction.atomic():
        # Concurrent writers: an operator sets one of them, or rotates too: the lock makes the later
        # one wait, so that neither drops the new key of the other from the file.
        rows = list(Secret.objects.select_for_update().order_by("name"))
        if new_key:
            _add_key()
        keys = read_keys()
        for row in rows:
            row.ciphertext = _encrypt(row.name, _decrypt(row, keys), keys)
        Secret.objects.bulk_update(rows, ["ciphertext"], batch_size=100)
        execute(audit("secrets_rotated", actor=actor, secrets=len(rows), new_key=new_key))
    return len(rows)


def read_secret(name: str, *, used_by: str) -> str:
    """Return the value for `used_by`, such as `source of feed usdthb`, and record the use.

    Raise NotFound or SecretUnreadable. Never hand the value to a process that runs strategies.
    """
    row = existing("secret", name, Secret.objects.filter(name=name))
    value = _decrypt(row, read_keys())
    now = timezone.now()
    Secret.objects.filter(
        Q(last_used_at=None) | Q(last_used_at__lt=now - USE_INTERVAL), name=name
    ).update(last_used_at=now, last_used_by=used_by[:150])
    return value


def check_secrets() -> None:
    """Raise SecretUnreadable unless there is a key, and every stored secret can be decrypted."""
    keys = read_keys()
    for row in Secret.objects.order_by("name"):
        _decrypt(row, keys)


def _check_secret(name: str, value: str) -> None:
    """Raise Invalid for a malformed name or value."""
    errors = []
    if not NAME.fullmatch(name):
        message = _(
            "{name} is not a valid name: use small letters, digits and inner hyphens, 80 "
            "at most, such as broker-key.",
            name=quoted(name),
        )
        errors.append({"field": "name", "code": "not_a_slug", "message": message})
    if not 1 <= len(value) <= MAX_VALUE:
        message = _(
            "the value has {number:,} characters; give 1 to {max_value:,}.",
            number=len(value),
            max_value=MAX_VALUE,
        )
        errors.append({"field": "value", "code": "out_of_range", "message": message})
    if errors:
        raise Invalid(errors)


def read_keys() -> MultiFernet:
    """Return the keys, the newest first. Raise SecretUnreadable if none or not all can be used."""
    env = settings.GINKGO
    try:
        keys: list[Fernet] = encryption_keys.parse(env.encryption_keys)
        return MultiFernet(keys or encryption_keys.read_file(env.encryption_keys_file))
    except KeysUnavailable as error:
        raise SecretUnreadable(str(error)) from None


def _add_key() -> None:
    """Put a new key before those of the file.

    Raise Refused if the keys are in the environment, SecretUnreadable if the file has no usable
    key or cannot be written.
    """
    env = settings.GINKGO
    if env.encryption_keys:
        message = _(
            "The keys are in {keys_variable}, which this command cannot change: put the "
            "output of `manage.py secret key` before them, restart every process, and "
            "rotate without --new-key.",
            keys_variable=KEYS_VARIABLE,
        )
        raise Refused("invalid", message)
    read_keys()  # raises if there is none: a new key alone could decrypt nothing
    try:
        encryption_keys.prepend(env.encryption_keys_file, encryption_keys.new_key())
    except OSError as error:
        raise SecretUnreadable(
            f"A new key cannot be put into {env.encryption_keys_file}: {error.strerror}. Nothing"
            " was changed. Run this as a user who may write that file and its folder."
        ) from None


def _encrypt(name: str, value: str, keys: MultiFernet | None = None) -> str:
    """Return the ciphertext under the newest of `keys`, by default of those of the installation."""
    # The name is encrypted too, so that a ciphertext copied into another row is noticed.
    return (keys or read_keys()).encrypt(json.dumps([name, value]).encode()).decode()


def _decrypt(row: Secret, keys: MultiFernet) -> str:
    """Return the value. Raise SecretUnreadable if no key fits or it is another secret's value."""
    try:
        name, value = json.loads(keys.decrypt(row.ciphertext))
    except InvalidToken:
        raise SecretUnreadable(
            f"The secret {row.name} cannot be decrypted: it was encrypted under a key that is "
            "not among the present ones. Add that key after them, or set the secret again."
        ) from None
    if name != row.name:
        raise SecretUnreadable(
            f"The row of the secret {row.name} holds the value of {quoted(name)}: somebody copied "
            "or renamed it in the database. Set both secrets again."
        )
    return str(value)
