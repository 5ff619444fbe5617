"""Make a database ready for this start, in one Django process.

    python -m ginkgo_site.launcher.prepare_home --nodes 3 [--no-demo]

Starting `manage.py` once for each of these steps would cost a second each. Prints one JSON object
a line: {"say": sentence} as it goes, at last {"ready": …} or {"refused": sentence}.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import django

from ginkgo_site.launcher.home import read_private, write_private

OPERATOR = "ginkgo"
#: Whose freeze the next start takes back; one that a person set stays.
ACTOR = "bin/up"
_DATABASE_LIMIT_S = 60


class Refused(Exception):
    """The home cannot be made ready. The text is a sentence for the person who started it."""


def prepare(nodes: int, demo: bool) -> dict[str, Any]:
    """Do every step and return what the launcher needs: login, tokens, names of demo portfolios."""
    from django.conf import settings

    home: Path = settings.GINKGO.home
    _wait_for_database()
    _check_durability()
    _migrate()
    login = _operator(home / "secrets" / "operator.json")
    tokens = _node_tokens(home / "secrets" / "nodes.json", nodes)
    portfolios = _seed_demo(nodes) if demo and nodes else []
    _take_back_own_freeze()
    return {"login": login, "node_tokens": tokens, "portfolios": portfolios}


def _wait_for_database() -> None:
    """Return when the database answers; it is starting while this process imports Django."""
    from django.db import OperationalError, connection

    deadline = time.monotonic() + _DATABASE_LIMIT_S
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise Refused(f"The database does not answer: {_first_line(error)}") from error
            time.sleep(0.05)


def _check_durability() -> None:
    from ginkgo_site.checks import check_commits_are_durable

    for message in check_commits_are_durable(databases=["default"]):
        raise Refused(f"{message.msg} {message.hint}")


def _migrate() -> None:
    """Bring the tables up to this release; silent when they are."""
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    steps = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if steps:
        _say(f"Bringing the database up to date ({len(steps)} steps) …")
        call_command("migrate", interactive=False, verbosity=0)


def _operator(path: Path) -> dict[str, Any]:
    """Return the operator's login, the same over restarts.

    A password that a person changed is left alone; then `password` is None.
    """
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group

    kept = read_private(path)
    user = get_user_model().objects.filter(username=OPERATOR).first()
    password = kept.get("password") or secrets.token_urlsafe(12)
    if user is None:
        user = get_user_model().objects.create_superuser(OPERATOR, password=password)
        user.groups.add(Group.objects.get_or_create(name="operator")[0])
    elif not _is_still(password, kept.get("password_hash"), user):
        password = None
    token = _api_token(kept.get("token"), user)
    login = {"username": OPERATOR, "password": password, "token": token}
    kept |= {name: value for name, value in login.items() if value is not None}
    if password is not None:
        kept["password_hash"] = user.password
    write_private(path, kept)
    return login


def _is_still(password: str, hash_then: str | None, user: Any) -> bool:
    """Say whether `password` is the user's. Checking costs 0.3 s, comparing hashes nothing."""
    return hash_then == user.password or user.check_password(password)


def _api_token(kept: str | None, user: Any) -> str:
    from scheduling.models import ApiToken
    from scheduling.models.tokens import hash_token

    if (
        kept
        and ApiToken.objects.filter(
            sha256=hash_token(kept), user=user, revoked_at__isnull=True
        ).exists()
    ):
        return kept
    return str(_command("create_api_token", user.get_username())["token"])


def _node_tokens(path: Path, count: int) -> dict[str, str]:
    """Return a valid token for each of node-1 … node-`count`, made where none is kept."""
    kept = read_private(path)
    valid = _valid_node_tokens(kept)
    tokens: dict[str, str] = {}
    for number in range(1, count + 1):
        name = f"node-{number}"
        tokens[name] = valid.get(name) or str(_command("create_node_token", name)["token"])
    if kept != kept | tokens:
        write_private(path, kept | tokens)
    return tokens


def _valid_node_tokens(kept: dict[str, str]) -> dict[str, str]:
    from django.db.models import Q
    from django.db.models.functions import Now

    from scheduling.models import NodeToken
    from scheduling.models.tokens import hash_token

    by_hash = {hash_token(token): name for name, token in kept.items()}
    rows = NodeToken.objects.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=Now()),
        sha256__in=by_hash,
        revoked_at__isnull=True,
    ).values_list("sha256", "node__name")
    return {name: kept[name] for sha256, name in rows if by_hash[sha256] == name}


def _seed_demo(nodes: int) -> list[str]:
    """Create the demo portfolios that are missing and return the names of all of them."""
    answer = _command("seed_demo", nodes=nodes)
    return [*answer["created"], *answer["kept"]]


def _take_back_own_freeze() -> None:
    """Undo the freeze that the last ordered stop set. One set by a person stays, and is shown."""
    from scheduling.models import Control

    control = Control.objects.filter(frozen_at__isnull=False).first()
    if control is None:
        return
    if control.frozen_by == ACTOR:
        _command("freeze", undo=True, by=ACTOR)
    else:
        _say(f"Automatic moves are frozen by {control.frozen_by}: manage.py freeze --undo ends it.")


def _command(name: str, *arguments: str, **options: Any) -> dict[str, Any]:
    """Call a management command with --json and return its answer."""
    from django.core.management import call_command

    output = io.StringIO()
    call_command(name, *arguments, json=True, stdout=output, **options)
    text = output.getvalue().strip()
    answer = json.loads(text) if text else {}
    return answer if isinstance(answer, dict) else {}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _say(sentence: str) -> None:
    print(json.dumps({"say": sentence}), flush=True)


def main() -> int:
    """Prepare and report. A refusal is a line on stdout; its traceback goes to the log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--no-demo", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ginkgo_site.settings")
    django.setup()
    from django.core.management import CommandError

    try:
        ready = prepare(args.nodes, demo=not args.no_demo)
    except (Refused, CommandError) as reason:
        print(json.dumps({"refused": str(reason)}), flush=True)
        return 1
    print(json.dumps({"ready": ready}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
