"""System checks: the database the fence rests on, and that nothing fails on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections


@register(Tags.security, deploy=True)
def check_this_is_no_rehearsal(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return an error where the environment allows processes to fail on purpose."""
    if not settings.GINKGO.rehearsal:
        return []
    return [
        Error(
            "GINKGO_REHEARSAL is set: failpoints may end processes of this installation on "
            "purpose.",
            hint="Unset GINKGO_REHEARSAL and GINKGO_FAILPOINTS where anything real is traded.",
            id="ginkgo.E003",
        )
    ]


@register(Tags.database)
def check_commits_are_durable(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return an error for each setting under which an acknowledged commit could be lost.

    Runs with `migrate` and with `check --database default`; costs two `SHOW` statements.
    """
    messages: list[CheckMessage] = []
    for alias in databases or []:
        with connections[alias].cursor() as cursor:
            for number, name in enumerate(("fsync", "synchronous_commit"), start=1):
                cursor.execute(f"SHOW {name}")
                value = cursor.fetchone()[0]
                if value == "off":
                    messages.append(
                        Error(
                            f"The database runs with {name}={value}: an acknowledged epoch could "
                            "be lost at a crash, and two nodes could commit one portfolio.",
                            hint=f"Set {name}=on in postgresql.conf and for this role.",
                            id=f"ginkgo.E{number:03}",
                        )
                    )
    return messages


@register(Tags.database)
def check_commits_wait_for_a_standby(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return a warning where there are standbys and no commit waits for one.

    Runs with `migrate` and with `check --database default`; costs one statement.
    """
    messages: list[CheckMessage] = []
    for alias in databases or []:
        with connections[alias].cursor() as cursor:
            messages += standby_warnings(cursor)
    return messages


def standby_warnings(cursor: Any) -> list[CheckMessage]:
    """Return the warnings for the server of this cursor. Any role may count the standbys."""
    cursor.execute(
        "SELECT count(*), current_setting('synchronous_standby_names') FROM pg_stat_replication"
    )
    standbys, names = cursor.fetchone()
    if not standbys or names:
        return []
    return [
        Warning(
            "The database replicates to standby servers and no commit waits for one "
            "(synchronous_standby_names is empty): after a promotion, acknowledged commits may "
            "be missing.",
            hint="Set synchronous_standby_names, or be ready to run raise_epoch_floor: "
            "docs/mechanisms/database.md.",
            id="ginkgo.W001",
        )
    ]
