"""Revoking tokens: whoever uses one is refused from now on, within two seconds."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit
from scheduling.errors import NotFound
from scheduling.models import ApiToken, Node, NodeToken


def revoke_node_tokens(name: str, *, actor: str, reason: str = "") -> int:
    """Revoke every token of the node; return how many still worked.

    Its daemon ends with a sentence at its next request, and its portfolios move when its lease is
    over.
    """
    node = Node.objects.filter(name=name).first()
    if node is None:
        raise NotFound("node", name)
    return revoke(NodeToken.objects.filter(node=node), actor=actor, reason=reason)


def revoke_api_tokens(username: str, *, actor: str, reason: str = "") -> int:
    """Revoke every token of the person; return how many still worked."""
    tokens = ApiToken.objects.filter(user__username=username)
    if not tokens.exists():
        raise NotFound("token of a user", username)
    return revoke(tokens, actor=actor, reason=reason)


def revoked_sentence(revoked: int, name: str) -> str:
    """Return the outcome for the person who asked for it."""
    what = "1 token of {0} is" if revoked == 1 else "{1} tokens of {0} are"
    return f"{what.format(name, revoked)} revoked."


@transaction.atomic
def revoke(
    tokens: QuerySet[NodeToken] | QuerySet[ApiToken], *, actor: str, reason: str = ""
) -> int:
    """Revoke these; return how many still worked. A line in the audit trail for each."""
    working: list[NodeToken | ApiToken] = list(tokens.filter(revoked_at=None).select_for_update())
    tokens.filter(pk__in=[token.pk for token in working]).update(revoked_at=timezone.now())
    for token in working:
        if isinstance(token, ApiToken):
            user = token.user.get_username()
            told = audit("api_token_revoked", actor=actor, reason=reason, user=user)
        else:
            told = audit("node_token_revoked", node=token.node_id, actor=actor, reason=reason)
        execute(told)
    return len(working)
