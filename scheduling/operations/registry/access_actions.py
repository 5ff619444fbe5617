"""What can be done with users, with tokens of their programs, and with secrets."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from scheduling.operations import secrets, tokens, users
from scheduling.operations.registry.operation import Operation

ADD_USER = Operation(
    "add",
    _("Add {name}"),
    _(
        "A viewer reads, an operator reads and acts. The link that is shown next sets the "
        "password; it works once, for three days."
    ),
    users.add_user,
    asks_reason=False,
)
MAKE_VIEWER = Operation(
    "viewer",
    _("Make {name} a viewer"),
    _("From now on the user may only read; the same holds for its tokens."),
    users.make_viewer,
    _("{name} is a viewer."),
    danger=True,
)
MAKE_OPERATOR = Operation(
    "operator",
    _("Make {name} an operator"),
    _("The user may act on everything from now on: move, stop and halt portfolios, drain nodes."),
    users.make_operator,
    _("{name} is an operator."),
    danger=True,
)
DEACTIVATE_USER = Operation(
    "deactivate",
    _("Deactivate {name}"),
    _("The user is signed out and its tokens are refused. It stays in the audit log."),
    users.deactivate_user,
    _("{name} is deactivated."),
    danger=True,
)
ACTIVATE_USER = Operation(
    "activate",
    _("Activate {name}"),
    _("The user may sign in again, and its tokens are valid again."),
    users.activate_user,
    _("{name} is active."),
)
RESET_PASSWORD = Operation(
    "password",
    _("Reset the password of {name}"),
    _(
        "The present password stops working. A link that is shown next sets another one; it works "
        "once, for three days."
    ),
    users.reset_password,
    danger=True,
)
REVOKE_API_TOKENS = Operation(
    "revoke_tokens",
    _("Revoke the tokens of {name}"),
    _("Programs that use one of the user's tokens are refused from now on."),
    tokens.revoke_api_tokens,
    command="revoke_api_token {name}",
    danger=True,
)
REVOKE_TOKEN = Operation(
    "revoke",
    _("Revoke {name}"),
    _(
        "Requests with this token are refused from now on. A daemon that loses its token exits, "
        "and its portfolios fail over when its lease expires."
    ),
    tokens.revoke_token,
    _("{name} is revoked."),
    danger=True,
)
SET_SECRET = Operation(
    "set",
    _("Set the secret {name}"),
    _("The value is stored encrypted, in place of an earlier one, and is never shown again."),
    secrets.set_secret,
    _("The secret {name} is set."),
    "secret set {name}",
    asks_reason=False,
)
DELETE_SECRET = Operation(
    "delete",
    _("Delete the secret {name}"),
    _("Everything that needs the secret fails from now on."),
    secrets.delete_secret,
    _("The secret {name} is deleted."),
    "secret delete {name}",
    danger=True,
)
ROTATE_SECRETS = Operation(
    "rotate",
    _("Encrypt all secrets anew"),
    _(
        "Every secret is encrypted under the newest key. Older keys are needed for older backups "
        "only."
    ),
    secrets.rotate_secrets,
    command="secret rotate",
    asks_reason=False,
)
