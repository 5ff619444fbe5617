"""manage.py migrate_portfolio NAME… [--to NODE] [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.base import Failed
from scheduling.management.handoff_commands import HandoffCommand
from scheduling.management.handoff_wait import wait_for_all
from scheduling.operations.registry import portfolio_actions
from scheduling.presentation.documents import moved_document
from scheduling.presentation.sentences import handoff_sentence


class Command(HandoffCommand):
    help = portfolio_actions.MIGRATE.help("a portfolio")
    operation = portfolio_actions.MIGRATE

    def arguments(self, parser: CommandParser) -> None:
        super().arguments(parser)
        parser.add_argument(
            "more", metavar="NAME", nargs="*", help="more portfolios, in one request"
        )
        parser.add_argument(
            "--to", metavar="NODE", help="the target, by default chosen by the balancer"
        )
        # Names may stand after an option too.
        parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]

    def act(self, options: dict[str, Any]) -> None:
        """Move one portfolio; of several, fail at the end if any did not move or is late."""
        if not options["more"]:
            super().act(options)
            return
        names = [options["name"], *options["more"]]
        outcomes = operations.migrate_several(
            names, options["to"], actor=self.actor, reason=options["reason"]
        )
        if options["wait"]:
            outcomes = wait_for_all(outcomes, options["wait"])
        lines = [
            handoff_sentence(each.handoff)
            if each.handoff and not each.refused
            else str(each.refused)
            for each in outcomes
        ]
        failures = {each.portfolio: each.refused.code for each in outcomes if each.refused}
        if not failures:
            self.show(moved_document(outcomes), "\n".join(lines))
            return
        late = [name for name, code in failures.items() if code == "wait_timeout"]
        stayed = [name for name in failures if name not in late]
        sentences = []
        if stayed:
            sentences.append(f"{len(stayed)} of {len(outcomes)} did not move: {', '.join(stayed)}.")
        if late:
            waited = f"{options['wait']:g} s"
            sentences.append(f"Not done after {waited}, and continuing: {', '.join(late)}.")
        if not self.as_json:
            self.show(None, "\n".join(lines))
        code = "not_moved" if stayed else "wait_timeout"
        # The outcomes give the reasons: as the lines above, or with --json in the document.
        raise Failed(code, " ".join(sentences), **moved_document(outcomes))

    def extra(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"target": options["to"]}
