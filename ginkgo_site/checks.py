"""System checks: failpoints, hosts and TLS; durability, rights and standbys of the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections


@register(Tags.security, deploy=True)
def check_failpoints_are_off(**_: Any) -> list[CheckMessage]:
    """Return an error if GINKGO_REHEARSAL is set, under which failpoints may end processes."""
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


@register(Tags.security, deploy=True)
def check_hosts_and_proxies(**_: Any) -> list[CheckMessage]:
    """Return what is unsafe in GINKGO_ALLOWED_HOSTS, GINKGO_HTTPS and GINKGO_TRUSTED_PROXIES."""
    messages: list[CheckMessage] = []
    if "*" in settings.ALLOWED_HOSTS:
        messages.append(
            Error(
                "GINKGO_ALLOWED_HOSTS has *: a request may name any host, and links in its answer, "
                "which are made of that name, then lead to a host of its sender's choice.",
                hint="Name the hosts, such as GINKGO_ALLOWED_HOSTS=ginkgo.example.org.",
                id="ginkgo.E010",
            )
        )
    if not settings.GINKGO.https:
        messages.append(
            Error(
                "GINKGO_HTTPS is not set: tokens of nodes and passwords travel in plain text.",
                hint="Put TLS in front of the web process and set GINKGO_HTTPS=1. Then the gateway "
                "too refuses what did not come through TLS.",
                id="ginkgo.E011",
            )
        )
    elif not settings.GINKGO.trusted_proxies:
        messages.append(
            Warning(
                "GINKGO_HTTPS is set, so a proxy is in front, but GINKGO_TRUSTED_PROXIES names "
                "none: all clients count as one address, and one that guesses passwords keeps "
                "everybody from signing in.",
                hint="Name the proxy's address, such as GINKGO_TRUSTED_PROXIES=127.0.0.1.",
                id="ginkgo.W012",
            )
        )
    return messages


# Checks with Tags.database run with `migrate` and with `check --database default`.


def _check_each(
    databases: Sequence[str] | None, check: Callable[[Any], list[CheckMessage]]
) -> list[CheckMessage]:
    """Return the messages of `check` for a cursor of each database; Django may pass None."""
    messages: list[CheckMessage] = []
    for alias in databases or []:
        with connections[alias].cursor() as cursor:
            messages += check(cursor)
    return messages


@register(Tags.database)
def check_commits_are_durable(
    databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """Return an error for each setting under which an acknowledged commit could be lost.

    Costs two `SHOW` statements.
    """
    return _check_each(databases, lost_commit_errors)


def lost_commit_errors(cursor: Any) -> list[CheckMessage]:
    """Return an error for each of fsync and synchronous_commit that is off."""
    messages: list[CheckMessage] = []
    for number, name in enumerate(("fsync", "synchronous_commit"), start=1):
        cursor.execute(f"SHOW {name}")
        if cursor.fetchone()[0] == "off":
            messages.append(
                Error(
                    f"The database runs with {name}=off: an acknowledged epoch could be lost at a "
                    "crash, and two nodes could commit one portfolio.",
                    hint=f"Set {name}=on in postgresql.conf and for this role.",
                    id=f"ginkgo.E{number:03}",
                )
            )
    return messages


@register(Tags.database)
def check_rights(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Return an error for a right that the role needs to migrate and lacks; two statements."""
    return _check_each(databases, missing_rights)


#: The role, its database and schema, quoted for a sentence, and whether it may create tables there.
_RIGHTS = """
    SELECT quote_ident(current_user), quote_ident(current_database()),
           quote_ident(current_schema()), has_schema_privilege(current_schema(), 'CREATE')
"""
#: The first table of Ginkgo whose owner the role may not act as, and the number of such tables.
_TABLES_OF_OTHERS = """
    SELECT relname, quote_ident(pg_get_userbyid(relowner)), count(*) OVER () FROM pg_class
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
      AND relkind IN ('r', 'p')
      AND relname ~ '^(portfolios|scheduling|django|auth|axes)_'
      AND NOT pg_has_role(relowner, 'USAGE')
    ORDER BY relname LIMIT 1
"""


def missing_rights(cursor: Any) -> list[CheckMessage]:
    """Return an error if the role may not create tables, or a table belongs to another role."""
    cursor.execute(_RIGHTS)
    role, database, schema, may_create = cursor.fetchone()
    if not may_create:
        where = f"schema {schema}" if schema else "any schema of its search_path"
        return [
            Error(
                f"The role {role} may not create tables in {where} of the database {database}.",
                hint=f"As a superuser, in this database: GRANT USAGE, CREATE ON SCHEMA "
                f"{schema or 'public'} TO {role};",
                id="ginkgo.E004",
            )
        ]
    cursor.execute(_TABLES_OF_OTHERS)
    if (row := cursor.fetchone()) is None:
        return []
    table, owner, count = row
    others = f" and {count - 1} more" if count > 1 else ""
    return [
        Error(
            f"The table {table}{others} in schema {schema} belongs to the role {owner}; the role "
            f"{role} may not migrate it.",
            hint=f"As a superuser, in this database: GRANT {owner} TO {role}; or connect as "
            f"{owner}.",
            id="ginkgo.E005",
        )
    ]


@register(Tags.database)
def check_commits_wait_for_a_standby(
    databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """Return a warning where there are standbys and no commit waits for one; one statement."""
    return _check_each(databases, standby_warnings)


def standby_warnings(cursor: Any) -> list[CheckMessage]:
    """Return a warning if there are standbys and no commit waits for one. Needs no right."""
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
