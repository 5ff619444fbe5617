"""The command line: all verbs with their arguments, and `main`, which runs one of them."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ginkgo_cli import acting_verbs, completion, handoff_verbs, reading_verbs
from ginkgo_cli.access import find_access
from ginkgo_cli.client import Client, Failed
from ginkgo_cli.context import Context
from ginkgo_cli.tables import printable


def seconds(text: str) -> float:
    """Parse a time above 0 and up to a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"must be seconds, over 0 and up to 86400, not {text!r}")
    return value


def positive(text: str) -> int:
    """Parse a whole number from 1 to 999,999,999."""
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    if not is_number or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to 999999999, not {text!r}"
        )
    return int(text)


def not_empty(text: str) -> str:
    """Return the text. Refuse an empty one: the empty beginning of a name matches every name."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; leave it out, or give a value")
    return text


_Argument = tuple[str, dict[str, Any]]  #: name and keyword arguments for argparse's add_argument


def _argument(name: str, **settings: Any) -> _Argument:
    """Return an argument that verbs can share, for `add` in `parser`."""
    return name, settings


def _text_argument(name: str, metavar: str, **settings: Any) -> _Argument:
    return _argument(name, metavar=metavar, type=not_empty, **settings)


def _flag(option: str, text: str) -> _Argument:
    return _argument(option, action="store_true", help=text)


NODE, PORTFOLIO = (
    _text_argument(kind, kind.upper(), help="its name; the beginning is enough")
    for kind in ("node", "portfolio")
)
FILTERS = [_text_argument(f"--{name}", name.upper()) for name in ("portfolio", "node", "kind")]
LAST = _argument("--last", type=positive, default=20, metavar="N", help="rows; default: 20")
WATCH = _flag("--watch", "show it again every 2 s, until Ctrl-C")
REASON = _argument("--reason", default="", help="why, for the audit log")
_WAIT_HELP = "wait for the outcome; exit with 1 if it is late"
WAIT = _argument("--wait", type=seconds, metavar="SECONDS", help=_WAIT_HELP)


class _Parser(argparse.ArgumentParser):
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse an unknown verb with the verbs that are like it, instead of all verbs."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            near = difflib.get_close_matches(value, action.choices, n=3, cutoff=0.5)
            help_ = f"did you mean {' or '.join(near)}?" if near else "`ginkgo --help` lists them"
            self.error(f"there is no verb {value!r}; {help_}")
        super()._check_value(action, value)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = _Parser(
        prog="ginkgo",
        description="Operate an installation over its API. The beginning of a name is enough.",
    )
    top.add_argument(
        "--server", type=not_empty, help="address of the server; default: GINKGO_SERVER"
    )
    token_help = "file with a token; default: GINKGO_TOKEN_FILE, or bin/up's"
    top.add_argument("--token-file", type=not_empty, metavar="PATH", help=token_help)
    ca_help = "file of the authority that signed the server's certificate; default: GINKGO_CA"
    top.add_argument("--ca", type=not_empty, metavar="PATH", help=ca_help)
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add(
        verb: str, act: Callable[[Context], None], *arguments: _Argument, summary: str = ""
    ) -> None:
        # By default the help is the first line of the verb's docstring.
        added = verbs.add_parser(verb, help=summary or (act.__doc__ or "").splitlines()[0])
        added.set_defaults(act=act)
        for name, settings in (_flag("--json", "print JSON, for programs"), *arguments):
            added.add_argument(name, **settings)

    add("status", reading_verbs.status, WATCH)
    add("nodes", reading_verbs.nodes, WATCH)
    add("portfolios", reading_verbs.portfolios, WATCH)
    add("node", reading_verbs.node, NODE, WATCH)
    add("portfolio", reading_verbs.portfolio, PORTFOLIO, WATCH)
    add("handoffs", reading_verbs.handoffs, *FILTERS, LAST)
    add("events", reading_verbs.events, *FILTERS, LAST)
    add("alerts", reading_verbs.alerts)
    add("orders", reading_verbs.orders, PORTFOLIO, LAST)
    add("log", reading_verbs.log, PORTFOLIO, _flag("--follow", "go on with new lines"))
    more = _text_argument("more", "PORTFOLIO", nargs="*", help="more, with one request")
    to = _text_argument("--to", "NODE", help="default: the balancer chooses")
    add("migrate", handoff_verbs.migrate, PORTFOLIO, REASON, WAIT, more, to)
    revision = _argument("--revision", type=positive, help="default: the wanted revision")
    add("reload", handoff_verbs.reload, PORTFOLIO, REASON, WAIT, revision)
    add("start", handoff_verbs.start, PORTFOLIO, REASON, WAIT)
    add("stop", handoff_verbs.stop, PORTFOLIO, REASON, WAIT)
    add("unpin", acting_verbs.unpin, PORTFOLIO)
    full = _flag("--full", "verify from the first event")
    add("verify", acting_verbs.verify, PORTFOLIO, WAIT, full)
    drain_options = (
        _flag("--plan", "show what it would do, and change nothing"),
        _flag("--make-room", "move portfolios of other nodes first where that helps"),
        _flag("--until-return", "end the drain once the node's daemon registers again"),
    )
    add("drain", acting_verbs.drain, NODE, REASON, WAIT, *drain_options)
    undrain = acting_verbs.node_verb("undrain", "{name} is no longer draining.")
    add("undrain", undrain, NODE, summary="End the drain of a node.")
    cordoned = "{name} is cordoned; its portfolios keep running on it."
    cordon = acting_verbs.node_verb("cordon", cordoned)
    add("cordon", cordon, NODE, REASON, summary="Place nothing new on a node.")
    uncordon = acting_verbs.node_verb("uncordon", "{name} is no longer cordoned.")
    add("uncordon", uncordon, NODE, summary="Let a node take portfolios again.")
    add("rebalance", acting_verbs.rebalance, _flag("--dry-run", "only say what it would do"))
    add("freeze", acting_verbs.freeze, REASON, _flag("--failover", "hold failover too"))
    add("unfreeze", acting_verbs.unfreeze)
    add("halt-all", acting_verbs.halt_all, REASON, _flag("--yes", "do not ask"))
    add("undo-halt", acting_verbs.undo_halt)
    what = _argument("what", choices=("bash", "zsh", "portfolio", "node"))
    summary = "Print the completion of bash or zsh."
    add("completion", reading_verbs.print_names, what, summary=summary)
    return top


def main(argv: Sequence[str]) -> int:
    """Run the verb that `argv` names, and return 0. Raise Failed if it fails."""
    top = parser()
    for text in argv:
        # Python reads a byte that is not UTF-8 as half of a surrogate pair.
        if any("\ud800" <= character <= "\udfff" for character in text):
            top.error(f"{text!r} is not text in UTF-8")
    given, rest = top.parse_known_args(argv)
    if given.verb == "migrate" and all(text.strip() and text[0] != "-" for text in rest):
        # Names after an option, which argparse leaves over in older versions of Python.
        given.more, rest = [*given.more, *rest], []
    if rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if given.verb == "completion" and given.what in completion.SHELLS:
        print(completion.script(given.what, verbs=list(_kinds_of_verbs(top))))
        return 0
    access = find_access(server=given.server, token_file=given.token_file, ca=given.ca)
    try:
        given.act(Context(Client(access), given))
    except Failed as failed:
        if given.json and failed.problem:
            print(printable(json.dumps(failed.problem, indent=2, ensure_ascii=False)))
        raise
    return 0


def _kinds_of_verbs(top: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield (verb, kind of the names that it takes: portfolio, node or empty)."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, parser_of_verb in action.choices.items():
                positional = {
                    argument.dest
                    for argument in parser_of_verb._actions
                    if not argument.option_strings
                }
                yield verb, next((kind for kind in ("portfolio", "node") if kind in positional), "")
