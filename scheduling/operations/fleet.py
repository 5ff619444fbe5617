"""Drain, cordon and forget nodes; freeze the fleet; let the feed run; rise after a restore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from portfolios.feed_registration import ensure_feed
from portfolios.models import (
    FeedSegment,
)
from scheduling.db.transaction import execute
from scheduling.enact import epoch_floor
from scheduling.enact.audit_log import audit
from scheduling.enact.forget import forget
from scheduling.enact.notify import bump_desired_versions
from scheduling.errors import NotFound
from scheduling.models import Control, Node
from scheduling.models.fleet_control import EvenBy


def drain(node: str, *, actor: str, reason: str = "") -> Node:
    """Place nothing new on the node and hand off what it has. Idempotent."""
    return _mark(node, "node_draining", actor, reason, draining=True, drain_reason=reason[:200],
                 drain_actor=actor[:150])  # fmt: skip


def undrain(node: str, *, actor: str) -> Node:
    """End a drain. Idempotent."""
    return _mark(node, "node_undrained", actor, "", draining=False, drain_reason="", drain_actor="")


def cordon(node: str, *, actor: str, reason: str = "") -> Node:
    """Place nothing new on the node; what runs there stays. Idempotent."""
    return _mark(node, "node_cordoned", actor, reason, cordoned=True)


def uncordon(node: str, *, actor: str) -> Node:
    """Lift a cordon. Idempotent."""
    return _mark(node, "node_uncordoned", actor, "", cordoned=False)


def _mark(name: str, kind: str, actor: str, reason: str, **values: Any) -> Node:
    with transaction.atomic():
        node = Node.objects.select_for_update(no_key=True).filter(name=name).first()
        if node is None:
            raise NotFound("node", name)
        flag = "cordoned" if "cordoned" in values else "draining"
        if getattr(node, flag) == values[flag]:
            return node
        for key, value in values.items():
            setattr(node, key, value)
        node.save(update_fields=list(values))
        execute(audit(kind, node=node.pk, actor=actor, reason=reason))
        execute(bump_desired_versions([node.pk]))
    node.refresh_from_db()
    return node


def forget_node(node: str, *, actor: str, reason: str = "") -> None:
    """Take a node that is gone for good off every list. Its history keeps the name.

    Refused while its lease is valid, or while it owns anything. A new token brings it back.
    """
    execute(forget(node, actor=actor, reason=reason))


def raise_epoch_floor(by: int, *, actor: str, reason: str = "") -> Sequence[epoch_floor.Raised]:
    """After a restore or a promotion: no epoch, id or set that is out there counts any more."""
    return execute(epoch_floor.raise_epoch_floor(by, actor=actor, reason=reason))


def freeze(*, actor: str, reason: str = "", failover: bool = False) -> None:
    """No automatic move of anything; failover too where `failover`. Idempotent."""
    with transaction.atomic():
        Control.objects.update_or_create(
            pk=1,
            defaults={
                "frozen_at": timezone.now(),
                "frozen_by": actor[:150],
                "frozen_reason": reason[:200],
                "freeze_failover": failover,
            },
        )
        execute(audit("frozen", actor=actor, reason=reason, failover=failover))
        execute(bump_desired_versions(Node.objects.values_list("pk", flat=True)))


def unfreeze(*, actor: str) -> None:
    """Lift the freeze. Idempotent."""
    with transaction.atomic():
        lifted = Control.objects.filter(pk=1, frozen_at__isnull=False).update(
            frozen_at=None, frozen_by="", frozen_reason="", freeze_failover=False
        )
        if lifted:
            execute(audit("unfrozen", actor=actor))
            execute(bump_desired_versions(Node.objects.values_list("pk", flat=True)))


def even_by(what: str, *, actor: str, reason: str = "") -> None:
    """Even out nodes by the `weight` they hold or by their measured `cpu`, from the next pass on.

    What fits is decided by weight all the same. Idempotent.
    """
    with transaction.atomic():
        control, _ = Control.objects.select_for_update().get_or_create(pk=1)
        if control.even_by == what:
            return
        control.even_by = EvenBy(what)
        control.save(update_fields=["even_by"])
        execute(audit("even_by", actor=actor, reason=reason, even_by=what))


def run_feed(rate: float, *, actor: str) -> None:
    """Let the feed run at `rate` events a second from now on; 0 pauses it. Idempotent.

    Raises `FeedDiffers` where the installed data is not the log that was traded on.
    """
    with transaction.atomic():
        before = FeedSegment.objects.order_by("-id").first()
        feed = ensure_feed(rate)
        latest = feed.segments.latest("id")
        if latest == before:
            return
        execute(audit("feed_rate", actor=actor, rate=rate, from_seq=latest.from_seq))
        # Nodes count the head from the segments: they must hear of this one.
        execute(bump_desired_versions(Node.objects.values_list("pk", flat=True)))
