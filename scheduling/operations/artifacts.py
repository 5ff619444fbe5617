"""Strategy artifacts: add, find and delete them, and keep them while a revision is written."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any, NamedTuple

import psycopg
from django.db import IntegrityError
from django.db.models import Sum
from msgspec import structs

from portfolios import strategy_inspection, validation
from portfolios.artifacts.catalog import UnknownArtifact, find_artifact
from portfolios.artifacts.lock import check_complete, env_sha256, normalise_lock
from portfolios.artifacts.parameters import has_pattern
from portfolios.artifacts.wheel import WheelRefused, read_wheel
from portfolios.models import Artifact, Revision
from portfolios.runtime.messages import FoundStrategy
from portfolios.runtime.python_version import PYTHON_VERSION
from portfolios.sentences import abbreviate
from portfolios.sentences import sentence as _
from portfolios.strategies.sources import ENTRY_POINT_GROUP
from portfolios.text import escape_unprintable, unprintable_in
from scheduling.artifact_code import CodeUnavailable, code_of_upload
from scheduling.db.transaction import execute
from scheduling.enact import artifacts as enact
from scheduling.errors import Refused
from scheduling.models import RollOut

#: Bytes of all wheels in the database together.
MAX_TOTAL_BYTES = 1 << 30
MAX_USERS_NAMED = 20  #: portfolios that a refusal names
BUSY_WAIT_S = 5.0  #: how long an upload waits for the inspection of another one

_inspecting = threading.Lock()


class Added(NamedTuple):
    """An artifact, and whether this call stored it."""

    artifact: Artifact
    is_new: bool


class ArtifactUser(NamedTuple):
    """A portfolio with a revision that names an artifact."""

    portfolio: str
    revisions: str  #: its newest revisions that name it, five at most, such as `r3, r5`
    is_wanted: bool  #: its wanted revision names the artifact
    is_deleted: bool


def add_artifact(filename: str, wheel: bytes, lock: str = "", *, actor: str) -> Added:
    """Check a wheel and its lock, run its strategies once in a sandbox, and store it.

    Bytes that are stored already with the same lock change nothing. Raise Refused with status 400
    or 413 (too large) for a file that cannot be used, 409 for a version that is stored with other
    bytes or another lock and if there is no room, 503 while another upload is inspected.
    """
    try:
        facts = read_wheel(filename, wheel)
        label = f"{facts.name} {facts.version}"
        locked = normalise_lock(lock)
        check_complete(label, facts.requires, locked)
    except WheelRefused as refused:
        status = 413 if refused.code == "payload_too_large" else 400
        raise Refused(refused.code, str(refused), status=status) from None
    sha256 = hashlib.sha256(wheel).hexdigest()
    environment = env_sha256(locked)
    known = _known(sha256, facts.name, facts.version, environment)
    if known is not None:
        return Added(known, False)
    if facts.pythons and PYTHON_VERSION not in facts.pythons:
        message = _(
            "{label} needs Python {python_requirement}, and this installation inspects "
            "strategies under Python {python_here}: build it for that version too.",
            label=label,
            python_requirement=facts.python_requirement,
            python_here=PYTHON_VERSION,
        )
        raise Refused("other_python", message, status=400)
    _refuse_full(label, len(wheel))
    strategies = _inspect(label, sha256, wheel, environment, locked)
    row = {
        "sha256": sha256,
        "name": facts.name,
        "version": facts.version,
        "filename": escape_unprintable(filename)[-200:],
        "wheel": wheel,
        "size": len(wheel),
        "summary": facts.summary,
        "python_tag": facts.python_tag,
        "python_requirement": facts.python_requirement,
        "pythons": list(facts.pythons),
        "lock": locked,
        "env_sha256": environment,
        "uploaded_by": actor[:150],
    }
    if not execute(enact.store(row, strategies, MAX_TOTAL_BYTES)):
        # Concurrent writer: an upload of the same bytes or version, or one that took the room.
        known = _known(sha256, facts.name, facts.version, environment)
        if known is not None:
            return Added(known, False)
        _refuse_full(label, len(wheel))
        message = _(
            "{label} was not stored: another upload came first, and was deleted since. "
            "Upload it again.",
            label=label,
        )
        raise Refused("artifact_gone", message)
    return Added(Artifact.objects.get(sha256=sha256), True)


def _known(sha256: str, name: str, version: str, environment: str) -> Artifact | None:
    """Return the artifact with this sha256, or None if it is not stored.

    Raise Refused if these bytes are stored with another lock, or this version with other bytes.
    """
    same = Artifact.objects.filter(sha256=sha256).first()
    if same is not None:
        if same.env_sha256 != environment:
            message = _(
                "{same} is stored with another lock. A lock belongs to the bytes that it was "
                "tested with: raise the version in pyproject.toml and build it again.",
                same=same,
            )
            raise Refused("artifact_exists", message)
        return same
    other = Artifact.objects.filter(name=name, version=version).first()
    if other is not None:
        message = _(
            "{other} is stored with other bytes ({sha256}…, uploaded by {uploaded_by} at "
            "{at:%Y-%m-%d %H:%M:%S}Z). A version never changes: raise it in "
            "pyproject.toml and build the wheel again.",
            other=other,
            sha256=other.sha256[:12],
            uploaded_by=other.uploaded_by or _("an unknown person"),
            at=other.at,
        )
        raise Refused("artifact_exists", message, artifact=other.sha256)
    return None


def _refuse_full(label: str, size: int) -> None:
    """Raise Refused if all artifacts with `size` bytes more would exceed MAX_TOTAL_BYTES."""
    used = Artifact.objects.aggregate(total=Sum("size"))["total"] or 0
    if used + size > MAX_TOTAL_BYTES:
        message = _(
            "{label} with {size:,} bytes does not fit: artifacts take {used:,} bytes of "
            "{max_total_bytes:,}. Delete some that no portfolio uses.",
            label=label,
            size=size,
            used=used,
            max_total_bytes=MAX_TOTAL_BYTES,
        )
        raise Refused("artifacts_full", message)


def _inspect(
    label: str, sha256: str, wheel: bytes, environment: str, lock: str
) -> list[FoundStrategy]:
    """Return the strategies of the wheel, one at least.

    Each inspection may build an environment, so one runs at a time. Raise Refused if another takes
    over BUSY_WAIT_S (503), or if the wheel cannot be inspected or has no strategy (400).
    """
    if not _inspecting.acquire(timeout=BUSY_WAIT_S):
        raise Refused(
            "busy",
            _("{label} was not added: another artifact is being inspected; repeat.", label=label),
            status=503,
        )
    try:
        code = code_of_upload(sha256, wheel, environment, lock)
        found = strategy_inspection.inspect_artifact(code)
    except (CodeUnavailable, strategy_inspection.CheckFailed) as failed:
        if str(failed).endswith("."):  # some of these texts are whole sentences
            message = _("{label} cannot be used: {failed}", label=label, failed=failed)
        else:
            message = _("{label} cannot be used: {failed}.", label=label, failed=failed)
        raise Refused("inspection_failed", message, status=400) from None
    finally:
        _inspecting.release()
    if not found:
        message = _(
            "{label} has no strategy: declare one as an entry point of the group {group}, and "
            "build the wheel again.",
            label=label,
            group=ENTRY_POINT_GROUP,
        )
        raise Refused("no_strategy", message, status=400)
    return [_checked(label, each) for each in found]


def _checked(label: str, found: FoundStrategy) -> FoundStrategy:
    """Return the strategy as it is stored. Raise Refused if it cannot be stored or shown.

    A strategy whose schema has a pattern counts as one that checks its parameters itself: a pattern
    is matched in the strategy's own process only.
    """
    # The import takes 0.1 s, and few processes ever receive an artifact.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        schema = json.loads(found.schema)
        Draft202012Validator.check_schema(schema)
        if not isinstance(schema, dict):
            raise ValueError(f"the schema is {found.schema[:40]}; a JSON object is wanted")
    except (ValueError, SchemaError, RecursionError) as error:
        message = _(
            "{label}: the parameters of {name} have no valid schema: {error}.",
            label=label,
            name=found.name,
            error=getattr(error, "message", str(error))[:200],
        )
        raise Refused("inspection_failed", message, status=400) from None
    if unprintable_in([found.name, found.class_path, found.summary, schema]):
        message = _(
            "{label}: name, summary or schema of {name} contain control characters.",
            label=label,
            name=found.name,
        )
        raise Refused("inspection_failed", message, status=400)
    return structs.replace(found, checks=found.checks or has_pattern(schema))


def delete_artifact(given: str, *, actor: str, reason: str = "") -> Artifact:
    """Delete the artifact with the hash `given`, or the beginning of a hash, and return it.

    Raise Refused: 404 if there is no such artifact; `artifact_in_use`, with the portfolios whose
    revisions name it, if a revision or a roll-out does.
    """
    artifact = present_artifact(given)
    try:
        if execute(enact.delete(artifact.sha256, str(artifact), actor, reason)):
            return artifact
    except (IntegrityError, psycopg.IntegrityError):
        pass  # concurrent writer: a revision or a roll-out that was written meanwhile
    named = RollOut.objects.filter(artifact=artifact).order_by("-pk").first()
    if named is not None and not artifact.revisions.exists():
        message = _(
            "{artifact} cannot be deleted: roll-out {pk} names it, which is kept as a record.",
            artifact=artifact,
            pk=named.pk,
        )
        raise Refused("artifact_in_use", message, portfolios=[])
    users = artifact_users(artifact.sha256)
    if not users:  # concurrent writer: another request deleted it
        raise Refused(
            "not_found",
            _("There is no artifact {sha256}…", sha256=artifact.sha256[:12]),
            status=404,
        )
    named_users = [f"{user.portfolio} ({user.revisions})" for user in users]
    message = _(
        "{artifact} cannot be deleted: revisions of {users} name it, and "
        "their records can be verified only with its bytes.",
        artifact=artifact,
        users=abbreviate(named_users, MAX_USERS_NAMED),
    )
    raise Refused(
        "artifact_in_use", message, portfolios=[user.portfolio for user in users[:MAX_USERS_NAMED]]
    )


def artifact_users(sha256: str) -> list[ArtifactUser]:
    """Return the portfolios whose revisions name an artifact: present ones, then deleted ones.

    In both groups, those whose wanted revision names it come first; then the name decides.
    """
    found: dict[int, list[Revision]] = {}
    revisions = Revision.objects.filter(artifact_id=sha256).select_related("portfolio")
    for revision in revisions.order_by("portfolio__archived_at", "portfolio__name", "number"):
        found.setdefault(revision.portfolio_id, []).append(revision)
    users = []
    for its_revisions in found.values():
        portfolio = its_revisions[0].portfolio
        users.append(
            ArtifactUser(
                portfolio.name,
                ", ".join(f"r{revision.number}" for revision in its_revisions[-5:]),
                any(revision.number == portfolio.revision for revision in its_revisions),
                portfolio.archived_at is not None,
            )
        )
    return sorted(users, key=lambda user: (user.is_deleted, not user.is_wanted, user.portfolio))


def present_artifact(given: str) -> Artifact:
    """Return the one artifact whose hash begins with `given`. Raise Refused (404)."""
    try:
        return find_artifact(given)
    except UnknownArtifact as unknown:
        raise Refused("not_found", str(unknown), status=404) from None


def resolve_artifact(given: Any) -> tuple[str | None, list[dict[str, str]]]:
    """Return (sha256, errors) for the artifact whose hash, or the beginning of it, is `given`.

    The sha256 is None if `given` is None or there are errors.
    """
    if given is None:
        return None, []
    if not isinstance(given, str):
        message = _("artifact is the sha256 of an artifact: give a text, or null.")
        return None, [validation.error("artifact", "wrong_type", message)]
    try:
        return find_artifact(given).sha256, []
    except UnknownArtifact as unknown:
        return None, [validation.error("artifact", "unknown_artifact", str(unknown))]


def hold_artifact(sha256: str) -> None:
    """Keep the artifact from deletion until the transaction ends. Raise Refused if it is gone."""
    if not execute(enact.hold(sha256)):
        message = _(
            "The artifact {artifact}… has just been deleted; upload it again.", artifact=sha256[:12]
        )
        raise Refused("artifact_gone", message)
