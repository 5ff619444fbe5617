"""manage.py replay_portfolio NAME [--from SEQ] [--to SEQ] [--print]"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandParser

from portfolios.text import escape_unprintable
from portfolios.verify.printed import LOADING, PrintedLine
from scheduling.management.arguments import positive_int
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.management.progress_bar import progress_bar
from scheduling.verification.replay import Replay, replay_portfolio, sentences

MAX_LINES = 100_000  #: in a JSON document; the text output has no limit


class Command(GinkgoCommand):
    help = (
        "Run a range of a portfolio's history again, under its recorded revisions, and show what "
        "its strategy prints. Changes nothing. Exit 0: equal to the records; 1: different, or it "
        "cannot be replayed."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        parser.add_argument(
            "--from", metavar="SEQ", dest="first", type=positive_int, help="default: first event"
        )
        parser.add_argument(
            "--to", metavar="SEQ", dest="last", type=positive_int, help="default: newest event"
        )
        parser.add_argument(
            "--print",
            action="store_true",
            dest="prints",
            help="show what the strategy prints, each line after the seq of its event",
        )

    def act(self, options: dict[str, Any]) -> None:
        """Replay, show the lines as they come, and say whether the result equals the records."""
        kept: list[PrintedLine] = []

        def keep_or_print(lines: Sequence[PrintedLine]) -> None:
            if self.as_json:
                kept.extend(lines[: MAX_LINES - len(kept)])
            else:
                self.stdout.write("".join(f"{_line(line)}\n" for line in lines), ending="")

        take_lines = keep_or_print if options["prints"] else None
        with progress_bar(options["name"]) as report:
            done = replay_portfolio(
                options["name"], options["first"], options["last"], take_lines, report
            )
        document = _document(done, kept)
        text = "\n".join(sentences(done))
        if done.compared.difference is not None:
            raise Failed("different", text, **document)
        self.show(document, text)


def _line(line: PrintedLine) -> str:
    where = "loading" if line.seq == LOADING else f"{line.seq:,}"
    return f"{where:>12}  {escape_unprintable(line.text)}"


def _document(done: Replay, lines: Sequence[PrintedLine]) -> dict[str, Any]:
    difference = done.compared.difference
    return {
        "portfolio": done.portfolio,
        "from_seq": done.from_seq,
        "to_seq": done.to_seq,
        "begun_at": done.begun_at,
        "verified_at": done.verified_at,
        "replayed": done.compared.replayed,
        "state": "identical" if difference is None else "different",
        "difference": None if difference is None else difference.sentence(),
        "printed": [{"seq": line.seq, "text": line.text} for line in lines],
    }
