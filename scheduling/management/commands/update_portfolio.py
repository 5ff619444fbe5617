"""manage.py update_portfolio NAME [--set NAME=VALUE] [--weight N] … [--if-revision N]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from portfolios.models import CatchUp
from scheduling import operations
from scheduling.errors import NotFound
from scheduling.management.arguments import (
    EachOnce,
    add_wait,
    comma_list,
    json_object,
    label,
    parameter,
    positive_int,
)
from scheduling.management.base import GinkgoCommand
from scheduling.management.handoff_wait import wait_for
from scheduling.operations.edits import CONFIGURATION, PLACEMENT
from scheduling.operations.registry import portfolio_actions
from scheduling.presentation.documents import handoff_document, portfolio_document, portfolio_view


class Command(GinkgoCommand):
    help = (
        portfolio_actions.EDIT.help("a portfolio")
        + " It is refused, and says who changed what, if somebody else changes the portfolio at the"
        " same time."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        parser.add_argument(
            "--if-revision",
            metavar="N",
            type=positive_int,
            help="change it only if this is its wanted revision, else say who changed it",
        )
        parser.add_argument(
            "--if-match",
            metavar="ETAG",
            help="change it only if nobody has since the API returned this ETag",
        )
        parser.add_argument(
            "--set",
            metavar="NAME=VALUE",
            type=parameter,
            action=EachOnce,
            help="one parameter of its strategy; the others stay; may be repeated",
        )
        parser.add_argument(
            "--config", metavar="JSON", type=json_object, help="all parameters of its strategy"
        )
        parser.add_argument("--strategy", metavar="S")
        parser.add_argument(
            "--artifact",
            metavar="SHA256",
            help="sha256 of the artifact, or its first digits; '' for a strategy of this release",
        )
        parser.add_argument("--symbols", metavar="A,B", type=comma_list)
        parser.add_argument("--limits", metavar="JSON", type=json_object)
        parser.add_argument("--weight", metavar="N", type=int)
        parser.add_argument("--priority", metavar="N", type=int)
        parser.add_argument(
            "--selector",
            metavar="K=V",
            type=label,
            action=EachOnce,
            help="a label that its node must have; replaces all; may be repeated",
        )
        parser.add_argument("--spread-group", metavar="GROUP")
        parser.add_argument("--spread-hard", choices=("yes", "no"))
        parser.add_argument("--catch-up", choices=CatchUp.values)
        parser.add_argument("--note", metavar="TEXT", default="")
        add_wait(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Change the portfolio; with --wait, return once the new revision runs."""
        name = options["name"]
        if options["if_revision"] and options["if_match"]:
            raise CommandError("Give --if-revision or --if-match, not both.", returncode=2)
        view = portfolio_view(name)
        changes = _changes(options)
        base = None
        if options["if_match"]:
            token = options["if_match"].removeprefix("W/").strip('"')
            base = operations.EditBase.from_token(token, "--if-match")
        elif options["if_revision"]:
            base = operations.EditBase(options["if_revision"])
        if options["set"]:
            if "config" in changes:
                raise CommandError("Give --set or --config, not both.", returncode=2)
            # The other parameters stay as read here, so the edit is refused if they changed since.
            base = base or operations.EditBase.of(view)
            values = operations.values_at(operations.EditBase(base.revision, view.id))
            if values is None:
                raise NotFound(f"revision of {name}", f"r{base.revision}")
            changes["config"] = {**values["config"], **options["set"]}
        if not changes:
            message = f"Give at least one field of {name} to change, such as --weight 2."
            raise CommandError(message, returncode=2)
        changes["note"] = options["note"]
        portfolio, handoff = operations.revise_portfolio(name, changes, actor=self.actor, base=base)
        if handoff is not None and options["wait"]:
            handoff = wait_for(handoff, options["wait"])
        document = {
            "portfolio": portfolio_document(name),
            "handoff": handoff_document(handoff),
            "warnings": operations.warnings_after_change(name, changes),
        }
        reload = f"; {handoff.kind} {handoff.state}" if handoff else ""
        sentence = f"{name} is at r{portfolio.revision}{reload}."
        self.show(document, " ".join([sentence, *document["warnings"]]))


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    """Return field → new value of the options that were given."""
    found = {
        name: options[name]
        for name in (*CONFIGURATION, *PLACEMENT)
        if options.get(name) is not None
    }
    if "artifact" in found:
        found["artifact"] = found["artifact"] or None  # "": a strategy of this release
    if "spread_hard" in found:
        found["spread_hard"] = found["spread_hard"] == "yes"
    return found
