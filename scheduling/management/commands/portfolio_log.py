"""manage.py portfolio_log NAME [--lines N] [--follow]"""

from __future__ import annotations

import json
import time
from datetime import UTC
from typing import Any

from django.core.management.base import CommandError, CommandParser

from portfolios.text import escape_unprintable
from scheduling.management.arguments import positive_int
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.models import LogLine
from scheduling.observe.portfolio_log import MOST_LINES, read_log
from scheduling.operations.lookup import existing_portfolio
from scheduling.presentation.sentences import log_line_text
from scheduling.presentation.serializers.trades import PortfolioLogDocument

FOLLOW_S = 1.0  #: between two reads of new lines


class Command(GinkgoCommand):
    help = (
        "Show what the processes of a portfolio printed: its newest lines, oldest first. With "
        "--follow, go on with new lines until Ctrl-C, or until the portfolio is deleted."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        parser.add_argument(
            "--lines",
            metavar="N",
            type=positive_int,
            default=100,
            help=f"newest N, at most {MOST_LINES}; default: 100",
        )
        parser.add_argument(
            "--follow", action="store_true", help="go on; with --json, one JSON object per line"
        )

    def act(self, options: dict[str, Any]) -> None:
        """Show the newest lines, and then new ones as they come."""
        if options["lines"] > MOST_LINES:
            raise CommandError(f"--lines takes at most {MOST_LINES}.", returncode=2)
        portfolio = existing_portfolio(options["name"])
        log = read_log(portfolio.pk, limit=options["lines"])
        if not options["follow"]:
            lines = "\n".join(map(_line, log.results)) or f"{options['name']} printed nothing."
            self.show(PortfolioLogDocument(log).data, lines)
            return
        last = log.last
        while True:
            for line in log.results:
                last = line.no
                self.stdout.write(_json_line(line) if self.as_json else _line(line))
            self.stdout.flush()
            time.sleep(FOLLOW_S)
            if existing_portfolio(options["name"]) != portfolio:
                raise Failed(
                    "not_found",
                    f"{options['name']} was deleted; another portfolio has its name now.",
                )
            log = read_log(portfolio.pk, after=last, limit=MOST_LINES)


def _line(line: LogLine) -> str:
    at = line.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return escape_unprintable(f"{at} {line.node} r{line.revision} {log_line_text(line)}")


def _json_line(line: LogLine) -> str:
    return json.dumps(
        {"no": line.no, "at": line.at.isoformat(), "node": line.node, "revision": line.revision}
        | {"text": line.text, "lost": line.lost}
    )
