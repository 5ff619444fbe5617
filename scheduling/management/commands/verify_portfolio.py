"""manage.py verify_portfolio NAME [--all] [--to SEQ] [--full]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import F, Q

from portfolios.models import Portfolio
from scheduling.decide.reasons import count
from scheduling.errors import NotFound, Refused
from scheduling.management.arguments import positive_int
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.management.progress_bar import progress_bar
from scheduling.operations.registry import portfolio_actions
from scheduling.verification.verify import verify_portfolio


class Command(GinkgoCommand):
    help = (
        portfolio_actions.VERIFY.help("a portfolio") + " Compared are state, orders, fills and "
        "equity under the recorded revisions, and the tenures with the history rebuilt from the "
        "audit log. "
        "Exit 0: identical; 1: different, or it cannot be verified."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", nargs="?", help="the portfolio")
        parser.add_argument(
            "--all", action="store_true", help="every portfolio that has committed events, in turn"
        )
        parser.add_argument(
            "--to", metavar="SEQ", type=positive_int, help="stop after this event of the log"
        )
        for option, text in portfolio_actions.VERIFY.options:
            parser.add_argument(f"--{option}", action="store_true", help=f"verify {text}")

    def act(self, options: dict[str, Any]) -> None:
        """Verify and show the results; exit with 1 if any is not identical."""
        if bool(options["name"]) == options["all"]:
            raise CommandError(
                "Give the NAME of one portfolio, or --all instead of it.", returncode=2
            )
        if options["name"]:
            document = _verify(options["name"], options["to"], options["full"])
            if document["state"] != "identical":
                code = "different" if document["state"] == "different" else "cannot_verify"
                # With --json the notes are in the document.
                text = document["sentence"] if self.as_json else _lines(document)
                raise Failed(code, text, **document)
            return self.show(document, _lines(document))
        documents = []
        present = Portfolio.objects.present().order_by("name")
        present = present.annotate(has_events=Q(run__last_seq__gte=F("first_seq")))
        found = list(present.values_list("name", "has_events"))
        names = [name for name, has_events in found if has_events]
        eventless = len(found) - len(names)
        for name in names:
            try:
                documents.append(_verify(name, options["to"], options["full"]))
            except NotFound:  # deleted since the names were read
                continue
            if not self.as_json:
                self.stdout.write(_lines(documents[-1], named=True))
        not_identical = [each["portfolio"] for each in documents if each["state"] != "identical"]
        if not_identical:
            total = count(len(documents), "portfolio")
            text = f"Not identical: {len(not_identical)} of {total}: {', '.join(not_identical)}."
            differs = any(each["state"] == "different" for each in documents)
            code = "different" if differs else "cannot_verify"
            raise Failed(code, text, results=documents, without_events=eventless)
        sentence = f"Identical: {count(len(documents), 'portfolio')} with committed events."
        if eventless:
            sentence += f" Without a committed event, and not compared: {eventless}."
        self.show({"results": documents, "without_events": eventless}, sentence)


def _verify(name: str, to_seq: int | None, full: bool) -> dict[str, Any]:
    """Verify the portfolio. Return the document of the result; state `failed` if there is none."""
    try:
        with progress_bar(name) as report:
            return verify_portfolio(name, to_seq, report, full=full).document()
    except NotFound:
        raise
    except Refused as refused:
        return {"portfolio": name, "state": "failed", "sentence": refused.message, "notes": []}


def _lines(document: dict[str, Any], *, named: bool = False) -> str:
    """Return the result and its notes, one per line."""
    first = f"{document['portfolio']}: {document['sentence']}" if named else document["sentence"]
    notes = list(document["notes"])
    if document.get("difference") and document.get("history"):
        # The sentence names the first difference only; the history is a second one.
        notes.insert(0, f"history differs: {document['history']}")
    return "\n".join([first, *notes])
