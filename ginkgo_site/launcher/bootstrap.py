"""Prepare the database for a start or a stop, in one Django process.

    python -m ginkgo_site.launcher.bootstrap start --nodes 3 [--no-demo]
    python -m ginkgo_site.launcher.bootstrap stop

One `manage.py` for each step would cost a second each. Prints one JSON object per line:
{"say": sentence} and {"progress": text} on the way, {"migrating": number} when migrations begin,
{"prepared": …} when nodes can be started, {"settled": …} when they have registered and the feed
runs, or at a stop once it is paused, or {"refused": sentence}.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from ginkgo_site.database import lift_session_limits
from ginkgo_site.django_start import set_up_django
from ginkgo_site.launcher.state_files import read_private, write_private
from ginkgo_site.sessions import find_unusable, name_process

logger = logging.getLogger(__name__)

OPERATOR = "ginkgo"
#: The actor of the freeze at a stop. The next start undoes it, and restores a person's freeze.
ACTOR = "bin/up"
_DATABASE_LIMIT_S = 180
#: The demo would start crowded on the first nodes, so slow nodes are waited for.
_NODES_LIMIT_S = 60
_LOOK_EVERY_S = 0.1


class Refused(Exception):
    """The installation cannot be prepared. The text is shown to the person who started it."""


def start(nodes: int, demo: bool) -> None:
    """Prepare the database, wait for the nodes, then let the demo begin and the feed run.

    Nothing is placed before all nodes are back, or the first node would get everything.
    """
    from django.conf import settings

    home: Path = settings.GINKGO.home
    _wait_for_database()
    _check_database()
    _migrate()
    since = _database_now()
    _end_leases_of_dead_daemons()
    tokens = _node_tokens(home / "secrets" / "nodes.json", nodes)
    _make_encryption_keys()
    _create_feed_if_missing()
    login = _operator(home / "secrets" / "operator.json")
    _report("prepared", {"login": login, "node_tokens": tokens})
    _wait_for_nodes(tokens, since)
    portfolios = _seed_demo(nodes) if demo and nodes else []
    _undo_own_freeze(home)
    _run_feed(settings.GINKGO.feed_rate)
    _report("settled", {"portfolios": portfolios})


def _make_encryption_keys() -> None:
    """Make a key for secrets, unless keys are given, or secrets exist, which need an older key."""
    from django.conf import settings

    from ginkgo_site import encryption_keys
    from portfolios.models import Secret

    env = settings.GINKGO
    if env.encryption_keys or Secret.objects.exists():
        return
    try:
        encryption_keys.make_file(env.encryption_keys_file)
    except OSError as error:
        raise Refused(
            f"The keys for secrets cannot be kept in {env.encryption_keys_file} "
            f"({error.strerror}): name another file by GINKGO_ENCRYPTION_KEYS_FILE."
        ) from None


def stop() -> None:
    """Freeze automatic moves and pause the feed, so that nodes can leave without a failover.

    A freeze that a person set is saved beside the data and restored at the next start.
    """
    from django.conf import settings

    from scheduling import operations
    from scheduling.models import Control

    home: Path = settings.GINKGO.home
    control = Control.objects.filter(frozen_at__isnull=False).first()
    if control is None:
        write_private(_kept_freeze_file(home), {})
    elif control.frozen_by != ACTOR:
        replaced = {
            "actor": control.frozen_by,
            "reason": control.frozen_reason,
            "failover": control.freeze_failover,
        }
        write_private(_kept_freeze_file(home), replaced)
    # A freeze by ACTOR is that of the last stop, which no start has undone: keep the file as it is.
    operations.freeze(actor=ACTOR, reason="orderly shutdown", failover=True)
    _run_feed(0.0)
    _wait_for_pause()
    _report("settled", {})


def _wait_for_database() -> None:
    """Return once the database answers. Raise Refused if it is unusable, or silent for too long."""
    from django.db import OperationalError, connection

    deadline = time.monotonic() + _DATABASE_LIMIT_S
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError as error:
            if (unusable := find_unusable(error)) is not None:
                raise Refused(str(unusable)) from error
            if time.monotonic() > deadline:
                why = f"The database does not answer ({_first_line(error)})"
                raise Refused(f"{why}: start it, or correct DATABASE_URL.") from error
            time.sleep(0.05)


def _check_database() -> None:
    """Raise Refused with the first error in the database's settings or in the role's rights."""
    from ginkgo_site import checks

    for check in (checks.check_commits_are_durable, checks.check_rights):
        for message in check(databases=["default"]):
            raise Refused(f"{message.msg} {message.hint}")


def _migrate() -> None:
    """Migrate the tables to this release; report nothing if they are current."""
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    steps = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if steps:
        _say(f"Bringing the database up to date ({len(steps)} steps) …")
        _report("migrating", len(steps))
        call_command("migrate", interactive=False, verbosity=1, stdout=_ProgressLines())


def _operator(path: Path) -> dict[str, Any]:
    """Return username, password and token of the operator, the same over restarts.

    The user is an operator, not a superuser: a person who reads the terminal may trade, no more. A
    password that a person changed is left alone; then `password` is None.
    """
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group

    kept = read_private(path)
    user = get_user_model().objects.filter(username=OPERATOR).first()
    password = kept.get("password") or secrets.token_urlsafe(12)
    if user is None:
        user = get_user_model().objects.create_user(OPERATOR, password=password, is_staff=True)
        user.groups.add(Group.objects.get_or_create(name="operator")[0])
    elif not _is_password(password, kept.get("password_hash"), user):
        password = None
    if user.is_superuser:
        _demote(user, is_printed=password is not None)
    token = _api_token(kept.get("token"), user)
    login = {"username": OPERATOR, "password": password, "token": token}
    kept |= {name: value for name, value in login.items() if value is not None}
    if password is not None:
        kept["password_hash"] = user.password
    write_private(path, kept)
    return login


def _demote(user: Any, is_printed: bool) -> None:
    """Remove the superuser rights that earlier releases gave to the printed login.

    A login whose password is no longer the printed one belongs to a person: report it, and leave it
    alone.
    """
    name = user.get_username()
    if not is_printed:
        _say(
            f"{name} is a superuser, created by an earlier release. Operators do not need this: "
            "remove the right in the admin, under Users."
        )
        return
    user.is_superuser = False
    user.save(update_fields=["is_superuser"])
    _say(
        f"{name} is now an operator and no longer a superuser. "
        "Create an administrator with manage.py createsuperuser."
    )


def _is_password(password: str, kept_hash: str | None, user: Any) -> bool:
    """Return whether `password` is the user's; an unchanged hash saves a check of 0.3 s."""
    return kept_hash == user.password or user.check_password(password)


def _api_token(kept: str | None, user: Any) -> str:
    """Return the kept token of the user if it is still valid, else a new one."""
    from scheduling.models import ApiToken
    from scheduling.models.tokens import hash_token

    valid = ApiToken.objects.filter(_not_expired(), revoked_at__isnull=True, user=user)
    if kept and valid.filter(sha256=hash_token(kept)).exists():
        return kept
    return str(_command("create_api_token", user.get_username())["token"])


def _node_tokens(path: Path, count: int) -> dict[str, str]:
    """Return node → valid token for node-1 … node-`count`; create the tokens that `path` lacks."""
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
    """Return node → token of those kept tokens that are still valid."""
    from scheduling.models import NodeToken
    from scheduling.models.tokens import hash_token

    by_hash = {hash_token(token): name for name, token in kept.items()}
    rows = NodeToken.objects.filter(
        _not_expired(), sha256__in=by_hash, revoked_at__isnull=True
    ).values_list("sha256", "node__name")
    return {name: kept[name] for sha256, name in rows if by_hash[sha256] == name}


def _not_expired() -> Any:
    """Return the condition that a token has not expired."""
    from django.db.models import Q
    from django.db.models.functions import Now

    return Q(expires_at__isnull=True) | Q(expires_at__gt=Now())


def _end_leases_of_dead_daemons() -> None:
    """End the leases of daemons of this machine that died without a goodbye.

    After kill -9 of the launcher a node registers while the lease of its dead daemon is valid. That
    counts as a takeover from a living daemon, and the third takeover is refused.
    """
    from scheduling.db.transaction import execute
    from scheduling.enact.lease import record_dead_daemon
    from scheduling.models import Lease

    held = Lease.objects.filter(node__status="alive", node__host=socket.gethostname())
    for node, incarnation, pid in held.values_list("node", "incarnation", "node__pid"):
        if pid is not None and not psutil.pid_exists(pid):
            execute(record_dead_daemon(node, incarnation))


def _create_feed_if_missing() -> None:
    """Create the feed's row if there is none: a node reads it when it registers.

    A feed paused by an orderly shutdown stays paused until the nodes are back.
    """
    from portfolios.models import FeedRow

    if not FeedRow.objects.filter(kind="replay").exists():
        from django.conf import settings

        _run_feed(settings.GINKGO.feed_rate)


def _run_feed(rate: float) -> None:
    """Run the feed at `rate` events a second from now on; 0 pauses it. Raise Refused."""
    from portfolios.feed_registration import FeedDiffers
    from portfolios.feeds import UnknownFeed, feed_names
    from scheduling.operations import run_feed

    try:
        run_feed(rate, actor=ACTOR)
    except FeedDiffers as error:
        raise Refused(str(error)) from None
    except UnknownFeed as unknown:
        raise Refused(
            f"GINKGO_FEED is {unknown.name!r}, which is no feed: use {' or '.join(feed_names())}, "
            "or unset it."
        ) from None


def _wait_for_pause() -> None:
    """Wait about 1 s, until the requested pause of the replays begins: nodes handle all before."""
    from portfolios.feed_registration import microseconds, read_segments
    from portfolios.models import FeedRow

    for row in FeedRow.objects.filter(kind="replay"):
        begins_us = read_segments(row)[-1].from_time_us
        time.sleep(max(begins_us - microseconds(_database_now()), 0) / 1e6)


def _wait_for_nodes(names: Collection[str], since: datetime) -> None:
    """Return when all nodes have registered since `since`; after 60 s say which have not."""
    from scheduling.models import Node

    deadline = time.monotonic() + _NODES_LIMIT_S
    missing = set(names)
    while missing and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        registered = Node.objects.filter(name__in=names, status="alive", lease__taken_at__gt=since)
        still_missing = set(names) - set(registered.values_list("name", flat=True))
        for name in sorted(missing - still_missing):
            _report("progress", f"{name} registered")
        missing = still_missing
    if missing:
        late = ", ".join(sorted(missing))
        _say(f"Nodes not registered after {_NODES_LIMIT_S} s, continuing without: {late}.")


def _seed_demo(nodes: int) -> list[str]:
    """Create the demo portfolios that are missing and return the names of all of them."""
    answer = _command("seed_demo", nodes=nodes)
    return [*answer["created"], *answer["kept"]]


def _undo_own_freeze(home: Path) -> None:
    """Undo the freeze of the last stop, and restore the person's freeze that it replaced, if any.

    A freeze that a person has set since then stays.
    """
    from scheduling import operations
    from scheduling.models import Control

    control = Control.objects.filter(frozen_at__isnull=False).first()
    if control is None:
        return
    replaced = read_private(_kept_freeze_file(home))
    by = control.frozen_by
    if by == ACTOR and replaced:
        operations.freeze(**replaced)
        by = replaced["actor"]
    elif by == ACTOR:
        operations.unfreeze(actor=ACTOR)
        return
    _say(f"Automatic moves are frozen by {by}: manage.py freeze --undo resumes them.")


def _kept_freeze_file(home: Path) -> Path:
    """Return the file that keeps a person's freeze while the launcher's own is in force."""
    return home / "secrets" / "frozen_before_stop.json"


def _command(name: str, *arguments: str, **options: Any) -> dict[str, Any]:
    """Call a management command with --json. Return its answer, {} if that is no object."""
    from django.core.management import call_command

    output = io.StringIO()
    call_command(name, *arguments, json=True, stdout=output, **options)
    text = output.getvalue().strip()
    answer = json.loads(text) if text else {}
    return answer if isinstance(answer, dict) else {}


def _database_now() -> datetime:
    from portfolios.feed_registration import database_now

    return database_now()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _ProgressLines(io.StringIO):
    """Report each line that `migrate` prints: the launcher waits while there is progress."""

    def write(self, text: str) -> int:
        """Report `text` to the launcher as progress. Return its length, as a stream does."""
        _report("progress", text)
        return len(text)


def _say(sentence: str) -> None:
    _report("say", sentence)


def _report(kind: str, what: Any) -> None:
    print(json.dumps({kind: what}), flush=True)


def main() -> int:
    """Start or stop, and report. A refusal is a line on stdout; its traceback goes to the log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["start", "stop"])
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--no-demo", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ginkgo_site.settings")
    name_process("launcher")
    set_up_django()
    gc.set_threshold(20_000, 20, 20)  # migrations make and drop hundreds of classes
    from django.conf import settings
    from django.core.management import CommandError
    from django.db import Error as DatabaseError

    lift_session_limits(settings.DATABASES["default"])
    try:
        if args.step == "start":
            start(args.nodes, demo=not args.no_demo)
        else:
            stop()
    except (Refused, CommandError) as reason:
        _report("refused", str(reason))
        return 1
    except DatabaseError as error:
        logger.exception("the database could not be prepared")
        _report("refused", f"The database could not be prepared: {_first_line(error)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
