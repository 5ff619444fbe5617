"""manage.py verify_portfolio NAME [--all] [--to SEQ] [--full]"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from portfolios.models import Portfolio
from scheduling.decide.reasons import count
from scheduling.errors import NotFound, Refused
from scheduling.management.arguments import positive_int
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.verification.verify import verify_portfolio


class Command(GinkgoCommand):
    """Replay a portfolio's log in one process and compare it with what the fleet left behind."""

    help = (
        "Replay a portfolio's events in one uninterrupted process, under its recorded revisions, "
        "and compare state, orders, fills and equity with what the fleet left behind; rebuild its "
        "history from the audit trail and hold it against the tenures. The portfolio runs on. "
        "Exit 0: identical; 1: different, or it cannot be verified."
    )

    def arguments(self, parser: CommandParser) -> None:
        """Take one portfolio or all, and how far to go."""
        parser.add_argument("name", metavar="NAME", nargs="?", help="the portfolio")
        parser.add_argument("--all", action="store_true", help="every portfolio, one by one")
        parser.add_argument(
            "--to", metavar="SEQ", type=positive_int, help="stop after this event of the log"
        )
        parser.add_argument(
            "--full",
            action="store_true",
            help="replay from the first event, not only what is new since the last verification",
        )

    def act(self, options: dict[str, Any]) -> None:
        """Verify, show the verdicts, and end with 1 if one is not identical."""
        if bool(options["name"]) == options["all"]:
            raise CommandError("Give the NAME of one portfolio, or --all.", returncode=2)
        if options["name"]:
            document = _verified(options["name"], options["to"], options["full"])
            if document["state"] != "identical":
                code = "different" if document["state"] == "different" else "cannot_verify"
                said = document["sentence"] if self.as_json else _lines(document)
                raise Failed(code, said, **document)
            return self.show(document, _lines(document))
        documents = []
        for name in _present():
            documents.append(_verified(name, options["to"], options["full"]))
            if not self.as_json:
                self.stdout.write(_lines(documents[-1], named=True))
        unlike = [d["portfolio"] for d in documents if d["state"] != "identical"]
        if unlike:
            among = count(len(documents), "portfolio is", "portfolios are")
            said = f"{len(unlike)} of {among} not identical: {', '.join(unlike)}."
            raise Failed("different", said, results=documents)
        self.show({"results": documents}, f"all {len(documents)} are identical")


def _present() -> list[str]:
    names = Portfolio.objects.present().order_by("name").values_list("name", flat=True)
    return list(names)


def _verified(name: str, to_seq: int | None, full: bool) -> dict[str, Any]:
    """Return the document of a verdict, or of why there can be none."""
    try:
        with _bar(name) as told:
            return verify_portfolio(name, to_seq, told, full=full).document()
    except NotFound:
        raise
    except Refused as refused:
        return {"portfolio": name, "state": "failed", "sentence": refused.message, "notes": []}


def _lines(document: dict[str, Any], *, named: bool = False) -> str:
    """Return the verdict and what is to be said beside it."""
    first = f"{document['portfolio']}: {document['sentence']}" if named else document["sentence"]
    beside = list(document["notes"])
    if document.get("difference") and document.get("history"):  # the sentence tells the first only
        beside.insert(0, f"history differs: {document['history']}")
    return "\n".join([first, *beside])


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int, int], None]]:
    """Give what takes the progress: a bar on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda first, at, last: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("seq {task.fields[at]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None, at="–")

        def told(first: int, at: int, last: int) -> None:
            bar.update(task, total=last - first + 1, completed=at - first + 1, at=f"{at:,}")

        yield told
