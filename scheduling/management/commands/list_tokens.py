"""manage.py list_tokens [--all]"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import CommandParser
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from scheduling.management.base import GinkgoCommand
from scheduling.models import ApiToken, NodeToken
from scheduling.presentation.serializers.access import ApiTokenDocument, NodeTokenDocument


class Command(GinkgoCommand):
    help = "List the tokens of users and nodes: owner, purpose, expiry and last use."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="include revoked and expired tokens")

    def act(self, options: dict[str, Any]) -> None:
        """List the tokens, without their values, of which only hashes are stored."""
        people = ApiToken.objects.select_related("user").order_by("pk")
        nodes = NodeToken.objects.select_related("node").order_by("pk")
        rows = [
            *ApiTokenDocument(people, many=True).data,
            *NodeTokenDocument(nodes, many=True).data,
        ]
        chosen = [row for row in rows if options["all"] or row["state"] == "valid"]
        self.show({"results": chosen}, partial(_draw, chosen))


def _draw(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD)
    for heading in ("of", "name", "scope", "state", "created", "expires", "last used", "by"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row.get("user") or row["node"],
            row["name"],
            row["scope"],
            row["state"],
            *(str(row[key] or "–")[:16] for key in ("created_at", "expires_at", "last_used_at")),
            row["created_by"],
        )
    console.print(table)
