"""Drain, cordon and forget nodes."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit
from scheduling.enact.forget import forget
from scheduling.enact.notify import bump_desired_versions
from scheduling.errors import NotFound
from scheduling.models import Node


def drain(node: str, *, actor: str, reason: str = "") -> Node:
    """Place nothing new on the node and hand off its portfolios. Idempotent."""
    marks = {"draining": True, "drain_reason": reason[:200], "drain_actor": actor[:150]}
    return _mark(node, "node_draining", actor, reason, marks)


def undrain(node: str, *, actor: str) -> Node:
    """End a drain. Idempotent."""
    marks = {"draining": False, "drain_reason": "", "drain_actor": ""}
    return _mark(node, "node_undrained", actor, "", marks)


def cordon(node: str, *, actor: str, reason: str = "") -> Node:
    """Place nothing new on the node; its portfolios stay. Idempotent."""
    return _mark(node, "node_cordoned", actor, reason, {"cordoned": True})


def uncordon(node: str, *, actor: str) -> Node:
    """Lift a cordon. Idempotent."""
    return _mark(node, "node_uncordoned", actor, "", {"cordoned": False})


def _mark(name: str, event: str, actor: str, reason: str, marks: dict[str, Any]) -> Node:
    """Set the fields of `marks` on the node, unless the first of them holds its value already."""
    flag = next(iter(marks))
    with transaction.atomic():
        node = Node.objects.select_for_update(no_key=True).filter(name=name).first()
        if node is None:
            raise NotFound("node", name)
        if getattr(node, flag) == marks[flag]:
            return node
        for key, value in marks.items():
            setattr(node, key, value)
        node.save(update_fields=list(marks))
        execute(audit(event, node=node.pk, actor=actor, reason=reason))
        execute(bump_desired_versions([node.pk]))
    node.refresh_from_db()
    return node


def forget_node(node: str, *, actor: str, reason: str = "") -> None:
    """Remove a node that is gone for good from every list. Its history keeps the name.

    Refused while its lease is valid or it owns a portfolio. A new token brings it back.
    """
    execute(forget(node, actor=actor, reason=reason))
