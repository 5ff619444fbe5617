"""Drain, cordon, label and forget nodes."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction

from portfolios.sentences import sentence as _
from portfolios.text import quoted, text_errors
from scheduling.db.transaction import Transaction, execute
from scheduling.decide.labels import label_edits
from scheduling.decide.reasons import render
from scheduling.decide.what_if.drain import room_for_drain
from scheduling.enact import node_marks
from scheduling.enact.forget import forget
from scheduling.enact.handoff import Request, request_all
from scheduling.errors import Invalid
from scheduling.models import Node
from scheduling.observe.snapshot import observe
from scheduling.operations.lookup import existing
from scheduling.timing import timing

MAX_LABELS = 50
MAX_LABEL = 80  #: characters of a label's name, and of its value


def drain(
    node: str, *, actor: str, reason: str = "", make_room: bool = False, until_return: bool = False
) -> Node:
    """Place nothing new on the node and hand off its portfolios. Idempotent.

    With `make_room`, portfolios of other nodes move first where that lets more of its portfolios
    leave. With `until_return`, the drain ends once its daemon has left and registers again.
    """
    marked = _apply_marks(
        node, node_marks.drain(node, actor=actor, reason=reason, until_return=until_return)
    )
    if make_room:
        _make_room(node, actor)
    return marked


def _make_room(node: str, actor: str) -> None:
    """Begin moves among other nodes, so that they have room for more of this node's portfolios."""
    times = timing()
    observed = observe(times)
    moves = room_for_drain(observed.snapshot, node)
    # Concurrent writer: a pass that moved one of these portfolios. Its epoch has then changed, and
    # its request alone is refused.
    requests = [
        Request(
            "migrate",
            move.portfolio.id,
            move.target.id,
            render(move.reason),
            to_revision=move.portfolio.revision,
            why=move.reason,
            seen_epoch=observed.rows[move.portfolio.id].epoch,
        )
        for move in moves
    ]
    if requests:
        execute(request_all(requests, actor=actor, timing=times, patient=True))


def undrain(node: str, *, actor: str) -> Node:
    """End a drain. Idempotent."""
    return _apply_marks(node, node_marks.undrain(node, actor=actor))


def cordon(node: str, *, actor: str, reason: str = "") -> Node:
    """Place nothing new on the node; its portfolios stay. Idempotent."""
    return _apply_marks(node, node_marks.cordon(node, actor=actor, reason=reason))


def uncordon(node: str, *, actor: str) -> Node:
    """Lift a cordon. Idempotent."""
    return _apply_marks(node, node_marks.uncordon(node, actor=actor))


def label(node: str, labels: Mapping[str, str], *, actor: str, reason: str = "") -> Node:
    """Give the node these labels and no others, also if its daemon registers with others.

    Idempotent. Portfolios that need a label which is gone move away. Raise NotFound, or
    Invalid for too many labels and for a malformed one that the node does not have yet.
    """
    with transaction.atomic():
        # Concurrent writers, which wait: another operator, and the daemon that registers.
        locked = Node.objects.select_for_update(no_key=True).filter(name=node)
        row = existing("node", node, locked)
        before = dict(row.labels)
        if before == dict(labels):
            return row
        _check_labels(labels, before)
        reported = row.reported_labels
        edits = label_edits(reported, labels)
        marks = node_marks.label(
            row.pk, labels, edits, seen=before, reported=reported, actor=actor, reason=reason
        )
        is_stored = execute(marks)
        assert is_stored, "nobody else can have changed the locked row"
    row.refresh_from_db()
    return row


def _check_labels(labels: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Raise Invalid if there are too many labels, or one that is new to the node is malformed."""
    errors = []
    if len(labels) > MAX_LABELS:
        message = _(
            "The node would have {number} labels; {max_labels} at most are allowed.",
            number=len(labels),
            max_labels=MAX_LABELS,
        )
        errors.append({"field": "labels", "code": "too_many", "message": message})
    for key, value in labels.items():
        if before.get(key) == value:
            continue
        for text in (key, value):
            errors += text_errors("labels", text, longest=MAX_LABEL)
        pair = f"{key}={value}"
        has_space = pair.split() != [pair]
        if not key or "=" in key or has_space or not value:
            message = _(
                "{label} is not a label: use KEY=VALUE, such as zone=a, both without spaces.",
                label=quoted(pair, longest=60),
            )
            errors.append({"field": "labels", "code": "invalid", "message": message})
    if errors:
        raise Invalid(errors)


def _apply_marks(name: str, marks: Transaction[bool]) -> Node:
    """Change marks of the node, and return it. Raise NotFound if there is no such node."""
    execute(marks)
    return existing("node", name, Node.objects.filter(name=name))


def forget_node(node: str, *, actor: str, reason: str = "") -> None:
    """Remove a node that is gone for good from every list. Its history keeps the name.

    A new token brings it back. Raise NotFound, or Refused while its lease is valid, it owns a
    portfolio or is in a handoff.
    """
    execute(forget(node, actor=actor, reason=reason))
