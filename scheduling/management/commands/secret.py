"""manage.py secret set|list|delete|rotate|key [NAME]"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from ginkgo_site.encryption_keys import new_key
from portfolios.models import Secret
from scheduling.decide.reasons import count
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.management.hidden_input import read_hidden
from scheduling.operations.registry import access_actions
from scheduling.operations.secrets import MAX_VALUE
from scheduling.presentation.serializers.access import SecretDocument

ACTIONS = ("set", "list", "delete", "rotate", "key")
NAMED = ("set", "delete")  #: actions that need a NAME


class Command(GinkgoCommand):
    help = (
        "Manage secrets, which are stored encrypted and shown by name only. `set NAME` reads the "
        "value from standard input, or asks for it: as an argument every user of the machine could "
        "read it. `rotate` encrypts every secret anew under the newest key, with --new-key under a "
        "new one. `key` prints a new key, for the file of keys."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=ACTIONS)
        parser.add_argument("name", metavar="NAME", nargs="?", default="", help="for set, delete")
        parser.add_argument(
            "--new-key", action="store_true", help="rotate: make a new key in the file first"
        )
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        action, name = options["action"], options["name"]
        if (action in NAMED) != bool(name):
            rule = f"{action} needs a NAME" if action in NAMED else f"{action} takes no NAME"
            raise CommandError(f"{rule}.", returncode=2)
        taken = {"delete": "reason", "rotate": "new_key"}.get(action)
        self.refuse_unused(action, options, *({"reason", "new_key"} - {taken}))
        match action:
            case "set":
                row = access_actions.SET_SECRET.call(name, _read_value(name), actor=self.actor)
                self.show(SecretDocument(row).data, access_actions.SET_SECRET.outcome(name))
            case "delete":
                access_actions.DELETE_SECRET.call(name, actor=self.actor, reason=options["reason"])
                self.show({"name": name}, access_actions.DELETE_SECRET.outcome(name))
            case "rotate":
                rotated = access_actions.ROTATE_SECRETS.call(
                    actor=self.actor, new_key=options["new_key"]
                )
                self.show({"rotated": rotated}, _rotation_sentence(rotated))
            case "key":
                key = new_key()
                self.show({"key": key}, key)
            case "list":
                rows = list(Secret.objects.all())
                self.show(SecretDocument(rows, many=True).data, partial(_draw_table, rows))


def _read_value(name: str) -> str:
    """Return the value typed at a prompt without an echo; without a terminal, standard input."""
    # Two more for a line end, and one more by which too long a value shows.
    text = read_hidden("value", f"Value of {name}: ", MAX_VALUE + 3)
    return text.removesuffix("\n").removesuffix("\r")


def _rotation_sentence(rotated: int) -> str:
    return (
        f"{count(rotated, 'secret is', 'secrets are')} encrypted under the newest key. Keep the "
        "older keys for as long as you keep backups of the database from before, then remove them."
    )


def _draw_table(rows: list[Secret], console: Console) -> None:
    table = Table("name", "set at", "by", "last used at", "by", box=None, pad_edge=False)
    for row in rows:
        used = f"{row.last_used_at:%Y-%m-%d %H:%M}Z" if row.last_used_at else "never"
        table.add_row(row.name, f"{row.set_at:%Y-%m-%d %H:%M}Z", row.set_by, used, row.last_used_by)
    console.print(table)
