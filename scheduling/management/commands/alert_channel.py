"""manage.py alert_channel set|test|remove|list [NAME]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.management.hidden_input import read_hidden
from scheduling.operations.alerts import channels_with_newest_message
from scheduling.operations.registry import alert_actions

ACTIONS = {"test": alert_actions.TEST_ALERT_CHANNEL, "remove": alert_actions.REMOVE_ALERT_CHANNEL}


class Command(GinkgoCommand):
    help = (
        "Choose where alerts are sent. `set NAME` reads the address from standard input, or asks "
        "for it; it is written as apprise wants it, such as jsons://example.org/hook."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("verb", choices=("set", "test", "remove", "list"))
        parser.add_argument("name", metavar="NAME", nargs="?", default="")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        verb, name = options["verb"], options["name"]
        operation = ACTIONS.get(verb)  # None for `set` and `list`
        if options["reason"] and (operation is None or not operation.asks_reason):
            raise CommandError(f"{verb} takes no --reason.", returncode=2)
        if verb == "list":
            if name:
                raise CommandError("list takes no NAME: it shows every channel.", returncode=2)
            keys = ("name", "enabled", "from_environment", "last_state", "last_at", "last_error")
            rows = list(channels_with_newest_message().values(*keys))
            self.show(rows, "\n".join(map(_line, rows)) or "no channel")
            return
        if not name:
            raise CommandError(f"{verb} needs the NAME of a channel.", returncode=2)
        if operation is None:
            address = read_hidden("address", "Address: ").strip()
            alert_actions.ADD_ALERT_CHANNEL.call(name, address, actor=self.actor)
            self.show({"name": name}, alert_actions.ADD_ALERT_CHANNEL.outcome(name))
            return
        given = {"reason": options["reason"]} if operation.asks_reason else {}
        operation.call(name, actor=self.actor, **given)
        self.show({"name": name}, operation.outcome(name))


def _line(row: dict[str, Any]) -> str:
    """Return a channel's name, and what became of its newest message."""
    if row["last_state"] is None:
        return f"{row['name']}: no message yet"
    told = f"{row['name']}: newest message {row['last_state']} ({row['last_at']:%F %T} UTC)"
    return told + (f": {row['last_error']}" if row["last_error"] else "")
