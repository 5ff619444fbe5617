"""The reader's words for states and events that rows store as codes."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

STATES = {
    "new": _("new"),
    "alive": _("alive"),
    "suspect": _("suspect"),
    "lost": _("lost"),
    "left": _("left"),
    "draining": _("draining"),
    "pending": _("pending"),
    "starting": _("starting"),
    "running": _("running"),
    "halted": _("halted"),
    "quarantined": _("quarantined"),
    "stopped": _("stopped"),
    "good": _("good"),
    "unproven": _("not yet good"),
    "rejected": _("rejected"),
    "requested": _("requested"),
    "preparing": _("preparing"),
    "activating": _("activating"),
    "done": _("done"),
    "failed": _("failed"),
    "rolled_back": _("rolled back"),
    "superseded": _("superseded"),
    "moved": _("moved"),
    "returned": _("returned"),
    "kept": _("kept"),
    "waits": _("waits"),
    "deleted": _("deleted"),
    "identical": _("identical"),
    "different": _("different"),
    "waiting": _("waiting"),
    "sent": _("sent"),
    "valid": _("valid"),
    "expired": _("expired"),
    "revoked": _("revoked"),
}

NODE_EVENTS = {
    "node_registered": _("its daemon registered"),
    "node_alive": _("is alive again"),
    "node_lost": _("was lost"),
    "node_leaving": _("is shutting down"),
    "node_left": _("left"),
    "node_draining": _("drain begun"),
    "node_undrained": _("drain ended"),
    "node_cordoned": _("cordoned"),
    "node_uncordoned": _("uncordoned"),
    "node_labelled": _("labels changed"),
    "node_token_created": _("token created"),
    "node_token_revoked": _("token revoked"),
    "node_forgotten": _("forgotten"),
}
