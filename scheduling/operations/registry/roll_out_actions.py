"""What an operator can do with an artifact and with a roll-out of it."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from scheduling.operations import artifacts, roll_outs
from scheduling.operations.registry.operation import Operation

ROLL_OUT = Operation(
    "roll-out",
    _("Roll out {name}"),
    _(
        "Each portfolio gets a revision with this artifact and is reloaded: the canary first and "
        "alone until its revision is proven, then a few at a time. The first rejection stops the "
        "roll-out; portfolios that run the artifact by then keep it until the roll-out is taken "
        "back."
    ),
    roll_outs.roll_out,
    command="roll_out {name}",
)
STOP_ROLL_OUT = Operation(
    "stop",
    _("Stop roll-out {name}"),
    _(
        "No further portfolio gets the artifact. Portfolios that have it keep it; those that are "
        "being changed are not interrupted. A stopped roll-out does not continue: take it back, "
        "or begin another."
    ),
    roll_outs.stop_roll_out,
    _("Roll-out {name} is stopped: no further portfolio gets the artifact."),
    "roll_out --stop {name}",
    danger=True,
)
RETURN_ROLL_OUT = Operation(
    "back",
    _("Take roll-out {name} back"),
    _(
        "Each portfolio that the roll-out changed wants its earlier revision again and is "
        "reloaded, up to ten at a time; each runs on until the earlier revision is prepared. A "
        "portfolio that an operator has changed since stays as it is, and so does one that the "
        "roll-out did not reach."
    ),
    roll_outs.return_roll_out,
    _("Roll-out {name} is being taken back."),
    "roll_out --back {name}",
    danger=True,
)
ADD_ARTIFACT = Operation(
    "add",
    _("Add {name}"),
    _(
        "The wheel is checked, its strategies are run once in a sandbox to read what they "
        "declare, and its bytes are stored. No portfolio changes: a revision that names the "
        "artifact runs exactly these bytes."
    ),
    artifacts.add_artifact,
    command="add_artifact WHEEL",
    asks_reason=False,
)
DELETE_ARTIFACT = Operation(
    "delete",
    _("Delete {name}"),
    _(
        "The bytes are removed. Refused while a revision of a portfolio names the artifact, since "
        "its record can be verified only with them."
    ),
    artifacts.delete_artifact,
    _("Artifact {name} is deleted."),
    "delete_artifact {name}",
    danger=True,
)
