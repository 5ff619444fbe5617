"""The verbs: each reads its arguments, asks the API, and shows the outcome."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ginkgo_cli import completion, views
from ginkgo_cli.access import find_access
from ginkgo_cli.client import Client, Failed
from ginkgo_cli.names import Kind, find, names_of, resolve
from ginkgo_cli.tables import plain, printable

#: Between two requests of --wait and --watch.
POLL_S, WATCH_S = 0.3, 2.0
UNDER_WAY = ("requested", "preparing", "draining", "activating")


@dataclass(frozen=True)
class Context:
    """One call: the server, and how its user wants to see the outcome."""

    client: Client
    given: argparse.Namespace

    def show(self, document: Any, text: str | Callable[[], str]) -> None:
        """Print the document with --json, otherwise the text."""
        if self.given.json:
            print(printable(json.dumps(document, indent=2, ensure_ascii=False)))
        else:
            print(printable(text if isinstance(text, str) else text()))

    def name(self, kind: Kind) -> str:
        """Return the whole name that the user began."""
        return resolve(self.client, kind, getattr(self.given, kind))


# --- reading -------------------------------------------------------------------------------------


def status(context: Context) -> None:
    """Show nodes, portfolios and open alerts."""

    def read() -> dict[str, Any]:
        client = context.client
        return {
            "nodes": list(client.rows("nodes/")),
            "portfolios": list(client.rows("portfolios/")),
            "alerts": list(client.rows("alerts/", open="true")),
        }

    _watched(context, read, views.status)


def nodes(context: Context) -> None:
    """List the nodes."""
    _watched(context, lambda: list(context.client.rows("nodes/")), views.nodes)


def portfolios(context: Context) -> None:
    """List the portfolios."""
    _watched(context, lambda: list(context.client.rows("portfolios/")), views.portfolios)


def node(context: Context) -> None:
    """Show one node."""
    path = f"nodes/{context.name('node')}/"
    _watched(context, lambda: context.client.get(path), views.node)


def portfolio(context: Context) -> None:
    """Show one portfolio."""
    path = f"portfolios/{context.name('portfolio')}/"
    _watched(context, lambda: context.client.get(path), views.portfolio)


def handoffs(context: Context) -> None:
    """List the newest handoffs."""
    rows = _rows(context, "handoffs/")
    context.show(rows, lambda: views.handoffs(rows))


def events(context: Context) -> None:
    """List the newest lines of the audit log."""
    rows = _rows(context, "events/")
    context.show(rows, lambda: views.events(rows))


def alerts(context: Context) -> None:
    """List the open alerts."""
    rows = list(context.client.rows("alerts/", open="true"))
    context.show(rows, lambda: views.alerts(rows))


def orders(context: Context) -> None:
    """List the newest orders of a portfolio."""
    rows = _rows(context, f"portfolios/{context.name('portfolio')}/orders/")
    context.show(rows, lambda: views.orders(rows))


def log(context: Context) -> None:
    """Show what a portfolio printed."""
    path = f"portfolios/{context.name('portfolio')}/log/"
    document = context.client.get(path)
    context.show(document, lambda: views.log(document["results"]))
    last = document["last"]
    while context.given.follow:
        time.sleep(WATCH_S)
        document = context.client.get(path, after=last)
        if document["results"]:
            context.show(document, lambda: views.log(document["results"]))  # noqa: B023
        last = document["last"]


def _rows(context: Context, path: str) -> list[dict[str, Any]]:
    filters = {
        name: getattr(context.given, name, None) or "" for name in ("portfolio", "node", "kind")
    }
    if path.startswith("portfolios/"):
        filters = {}
    return list(context.client.rows(path, context.given.last, **filters))


def _watched(context: Context, read: Callable[[], Any], draw: Callable[[Any], str]) -> None:
    """Show a document once, or again and again with --watch."""
    document = read()
    if not context.given.watch:
        context.show(document, lambda: draw(document))
        return
    while True:
        # Home, and clear what is below: without flicker.
        sys.stdout.write("\x1b[H\x1b[J" if sys.stdout.isatty() else "")
        context.show(document, lambda: draw(document))  # noqa: B023
        sys.stdout.flush()
        time.sleep(WATCH_S)
        document = read()


# --- acting --------------------------------------------------------------------------------------


def migrate(context: Context) -> None:
    """Move portfolios to another node; without --to, the balancer chooses."""
    target = resolve(context.client, "node", context.given.to) if context.given.to else None
    if context.given.more:
        _migrate_several(context, target)
    else:
        _handoff(context, "migrate", target_node=target, reason=context.given.reason)


def _migrate_several(context: Context, target: str | None) -> None:
    """Move several portfolios with one request; fail at the end if one did not move or is late."""
    given = context.given
    existing = names_of(context.client, "portfolio")
    names = [find(existing, "portfolio", one) for one in (given.portfolio, *given.more)]
    document = context.client.post(
        "schedule/migrate-several/", portfolios=names, target_node=target, reason=given.reason
    )
    results = document["results"]
    handoffs = {row["portfolio"]: row["handoff"] for row in results}
    unread = ""
    until = time.monotonic() + (given.wait or 0)
    for handoff in handoffs.values():
        if unread and time.monotonic() >= until:
            break  # a server that is away would hold up each of them
        try:
            if given.wait and handoff:
                _await_end(context, handoff, until)
        except Failed as failed:
            unread = f" {failed}"
    context.show(document, lambda: views.moved(results))
    states = {name: handoff["state"] if handoff else "" for name, handoff in handoffs.items()}
    stayed = [name for name, state in states.items() if state not in (*UNDER_WAY, "done")]
    late = [name for name, state in states.items() if given.wait and state in UNDER_WAY]
    sentences = []
    if stayed:
        sentences.append(f"{len(stayed)} of {len(results)} did not move: {', '.join(stayed)}.")
    if late:
        sentences.append(
            f"Not done after {given.wait:g} s, and continuing: {', '.join(late)}.{unread}"
        )
    if sentences:
        raise Failed(" ".join(sentences))


def reload(context: Context) -> None:
    """Reload a portfolio, by default with its wanted revision."""
    _handoff(context, "reload", revision=context.given.revision, reason=context.given.reason)


def start(context: Context) -> None:
    """Start a stopped portfolio."""
    _handoff(context, "start", reason=context.given.reason)


def stop(context: Context) -> None:
    """Stop a portfolio where it is."""
    _handoff(context, "stop", reason=context.given.reason)


def _handoff(context: Context, verb: str, **body: Any) -> None:
    name = context.name("portfolio")
    document = context.client.post(f"portfolios/{name}/{verb}/", **body)
    handoff = document if "kind" in document else document.get("handoff")
    if context.given.wait and handoff:
        handoff = document = _ended(context, handoff)
    elif context.given.wait and verb == "start":
        document = _placed(context, name)
        context.show(document, f"{name} runs on {document['run']['node']}.")
        return
    context.show(
        document,
        views.handoff_sentence(handoff)
        if handoff
        else f"{name} is pending: the balancer places it at its next pass.",
    )
    if handoff and handoff["state"] not in (*UNDER_WAY, "done"):
        raise Failed(handoff["error"] or f"The {handoff['kind']} ended {handoff['state']}.")


def _ended(context: Context, handoff: dict[str, Any]) -> dict[str, Any]:
    """Return a handoff once it has ended. Raise Failed after --wait seconds."""
    _await_end(context, handoff, time.monotonic() + context.given.wait)
    if handoff["state"] in UNDER_WAY:
        raise Failed(
            f"The {handoff['kind']} of {handoff['portfolio']} (handoff {handoff['id']}) is "
            f"still {handoff['state']} after {context.given.wait:g} s; it continues."
        )
    return handoff


def _await_end(context: Context, handoff: dict[str, Any], until: float) -> None:
    """Read a handoff anew, into the same document, until it has ended or the time is up."""
    shown = ""
    try:
        while handoff["state"] in UNDER_WAY:
            if sys.stderr.isatty() and handoff["state"] != shown:
                shown = handoff["state"]
                now = plain(f"{handoff['kind']} of {handoff['portfolio']}: {shown}")
                sys.stderr.write(f"\r\x1b[K{now}")
                sys.stderr.flush()
            handoff.update(context.client.get(f"handoffs/{handoff['id']}/"))
            if handoff["state"] not in UNDER_WAY or time.monotonic() >= until:
                return
            time.sleep(POLL_S)
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")


def _placed(context: Context, name: str) -> dict[str, Any]:
    """Return a portfolio once it runs. Raise Failed after --wait seconds."""
    until = time.monotonic() + context.given.wait
    while True:
        document: dict[str, Any] = context.client.get(f"portfolios/{name}/")
        run = document["run"]
        if run["phase"] == "running":
            return document
        if time.monotonic() >= until:
            why = f": {run['reason']}" if run["reason"] else "."
            raise Failed(f"{name} is still {run['phase']} after {context.given.wait:g} s{why}")
        time.sleep(POLL_S)


def drain(context: Context) -> None:
    """Hand all portfolios of a node to others."""
    name, given = context.name("node"), context.given
    if given.plan:
        plan = context.client.get(f"nodes/{name}/drain-plan/")
        context.show(plan, lambda: views.drain_plan(plan))
        return
    path = f"nodes/{name}/"
    options = {"make_room": given.make_room, "until_return": given.until_return}
    document = context.client.post(f"{path}drain/", reason=given.reason, **options)
    until = time.monotonic() + (given.wait or 0)
    while given.wait and document["portfolios"]:
        if time.monotonic() >= until:
            raise Failed(
                f"{name} still runs {', '.join(document['portfolios'][:3])} after "
                f"{given.wait:g} s; it is still draining. `ginkgo drain {name} --plan` says what "
                "has no place."
            )
        time.sleep(POLL_S)
        document = context.client.get(path)
    left = len(document["portfolios"])
    sentence = f"is draining: {left} to hand off." if left else "is drained: it runs nothing."
    context.show(document, f"{name} {sentence}")


def node_verb(verb: str, sentence: str) -> Callable[[Context], None]:
    """Return an action on a node whose outcome is this sentence."""

    def act(context: Context) -> None:
        name = context.name("node")
        reason = getattr(context.given, "reason", None)
        document = context.client.post(f"nodes/{name}/{verb}/", reason=reason)
        context.show(document, sentence.format(name=name))

    return act


def unpin(context: Context) -> None:
    """Let the balancer move a portfolio again."""
    name = context.name("portfolio")
    document = context.client.post(f"portfolios/{name}/unpin/")
    context.show(document, f"{name} is not pinned; the balancer may move it.")


def verify(context: Context) -> None:
    """Replay a portfolio's history and compare."""
    path = f"portfolios/{context.name('portfolio')}/verification/"
    document = context.client.post(path, full=context.given.full or None)
    until = time.monotonic() + (context.given.wait or 0)
    while document["state"] in ("waiting", "running") and time.monotonic() < until:
        time.sleep(POLL_S)
        document = context.client.get(path)
    context.show(document, f"{document['portfolio']}: {document['sentence']}")
    if context.given.wait and document["state"] in ("waiting", "running"):
        raise Failed(f"It is not done after {context.given.wait:g} s; it continues.")
    if document["state"] in ("different", "failed"):
        raise Failed("The history differs, or could not be replayed.")


def rebalance(context: Context) -> None:
    """Run the balancer now; with --dry-run only say what it would do."""
    if context.given.dry_run:
        plan = context.client.get("schedule/plan/")
        context.show(plan, lambda: views.plan(plan))
        return
    document = context.client.post("schedule/rebalance/")
    count = len(document["requested"])
    moves = "Nothing to move." if not count else f"{count} handoff{'s' * (count > 1)} requested."
    context.show(document, moves)


def freeze(context: Context) -> None:
    """Hold the balancer; with --failover, failover too."""
    given = context.given
    document = context.client.post("schedule/freeze/", reason=given.reason, failover=given.failover)
    context.show(document, "Scheduling is frozen.")


def unfreeze(context: Context) -> None:
    """Let the balancer go on."""
    context.show(context.client.post("schedule/unfreeze/"), "Scheduling goes on.")


def halt_all(context: Context) -> None:
    """Stop every portfolio now, and keep it stopped."""
    given = context.given
    running = sum(row["run"]["node"] is not None for row in context.client.rows("portfolios/"))
    if not given.yes:
        if not sys.stdin.isatty():
            raise Failed("Without a terminal, `ginkgo halt-all` needs --yes.")
        wanted = f"halt {running}"
        if _asked(f"This stops {running} running portfolios. Type `{wanted}`: ") != wanted:
            raise Failed("Nothing was halted.")
    document = context.client.post("halt/", reason=given.reason, expect_running=running)
    context.show(
        document,
        f"Halt {document['halt']}: {document['running']} were running, and none may trade. "
        "`ginkgo undo-halt` starts them again.",
    )


def _asked(question: str) -> str:
    """Return what the user types, empty if the input ends."""
    try:
        return input(question)
    except EOFError:
        print()
        return ""


def undo_halt(context: Context) -> None:
    """Start again what the newest halt stopped."""
    document = context.client.post("halt/undo/")
    context.show(document, f"Started: {', '.join(document['started']) or 'none'}.")


def complete(context: Context) -> None:
    """Print the completion of a shell, or the names of a kind."""
    if context.given.what in ("portfolio", "node"):
        print("\n".join(plain(name) for name in names_of(context.client, context.given.what)))


# --- arguments -----------------------------------------------------------------------------------


def seconds(text: str) -> float:
    """Parse a time above 0 and up to a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most 86400, not {text!r}")
    return value


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    digits = text.isascii() and text.isdigit() and len(text) < 10
    if not digits or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def filled(text: str) -> str:
    """Return the text. Refuse an empty one, as of an unset variable: it would mean anything."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; leave it out, or give a value")
    return text


class _Parser(argparse.ArgumentParser):
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse an unknown verb with what is near, in place of all thirty."""
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
    top.add_argument("--server", type=filled, help="its address; default: GINKGO_SERVER")
    top.add_argument(
        "--token-file",
        type=filled,
        metavar="PATH",
        help="default: GINKGO_TOKEN_FILE, or bin/up's",
    )
    top.add_argument(
        "--ca",
        type=filled,
        metavar="PATH",
        help="certificates that sign the server's",
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add(verb: str, act: Callable[[Context], None], summary: str = "") -> _Verb:
        one = verbs.add_parser(verb, help=summary or (act.__doc__ or "").splitlines()[0])
        one.set_defaults(act=act)
        one.add_argument("--json", action="store_true", help="print JSON, for programs")
        return _Verb(one)

    for verb, act in (("status", status), ("nodes", nodes), ("portfolios", portfolios)):
        add(verb, act).watch()
    add("node", node).names("node").watch()
    add("portfolio", portfolio).names("portfolio").watch()
    add("handoffs", handoffs).filters("portfolio", "node", "kind").last()
    add("events", events).filters("portfolio", "node", "kind").last()
    add("alerts", alerts)
    add("orders", orders).names("portfolio").last()
    add("log", log).names("portfolio").flag("--follow", "go on with new lines")
    move = add("migrate", migrate).names("portfolio").reason().wait()
    move.parser.add_argument(
        "more", metavar="PORTFOLIO", nargs="*", type=filled, help="more, with one request"
    )
    move.parser.add_argument("--to", metavar="NODE", type=filled, help="default: the balancer's")
    again = add("reload", reload).names("portfolio").reason().wait()
    again.parser.add_argument("--revision", type=positive, help="default: the wanted one")
    add("start", start).names("portfolio").reason().wait()
    add("stop", stop).names("portfolio").reason().wait()
    add("unpin", unpin).names("portfolio")
    add("verify", verify).names("portfolio").wait().flag("--full", "from the first event")
    draining = add("drain", drain).names("node").reason().wait()
    draining.flag("--plan", "show what it would do, and change nothing")
    draining.flag("--make-room", "move portfolios of other nodes first where that helps")
    draining.flag("--until-return", "end the drain once its daemon registers again")
    ends = node_verb("undrain", "{name} is no longer draining.")
    add("undrain", ends, "End the drain of a node.").names("node")
    cordon = node_verb("cordon", "{name} is cordoned; its portfolios keep running on it.")
    add("cordon", cordon, "Place nothing new on a node.").names("node").reason()
    uncordon = node_verb("uncordon", "{name} is no longer cordoned.")
    add("uncordon", uncordon, "Let a node take portfolios again.").names("node")
    add("rebalance", rebalance).flag("--dry-run", "only say what it would do")
    add("freeze", freeze).reason().flag("--failover", "hold failover too")
    add("unfreeze", unfreeze)
    add("halt-all", halt_all).reason().flag("--yes", "do not ask")
    add("undo-halt", undo_halt)
    shells = add("completion", complete, "Print the completion of bash or zsh.")
    shells.parser.add_argument("what", choices=("bash", "zsh", "portfolio", "node"))
    return top


@dataclass(frozen=True)
class _Verb:
    """The parser of one verb, and arguments that several take."""

    parser: argparse.ArgumentParser

    def names(self, kind: Kind) -> _Verb:
        self.parser.add_argument(
            kind, metavar=kind.upper(), type=filled, help="or the beginning of its name"
        )
        return self

    def filters(self, *names: str) -> _Verb:
        for name in names:
            self.parser.add_argument(f"--{name}", type=filled, metavar=name.upper())
        return self

    def last(self) -> _Verb:
        self.parser.add_argument(
            "--last", type=positive, default=20, metavar="N", help="how many; default: 20"
        )
        return self

    def watch(self) -> _Verb:
        return self.flag("--watch", "show it again every 2 s, until Ctrl-C")

    def reason(self) -> _Verb:
        self.parser.add_argument("--reason", default="", help="why, for the audit log")
        return self

    def wait(self) -> _Verb:
        self.parser.add_argument(
            "--wait", type=seconds, metavar="SECONDS", help="wait for the outcome; 1 if it is late"
        )
        return self

    def flag(self, option: str, text: str) -> _Verb:
        self.parser.add_argument(option, action="store_true", help=text)
        return self


def main(argv: Sequence[str]) -> int:
    """Run one verb. Raise Failed with a sentence."""
    top = parser()
    for text in argv:
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            top.error(f"{text!r} is not text in UTF-8")
    given, rest = top.parse_known_args(argv)
    if given.verb == "migrate" and all(text.strip() and text[0] != "-" for text in rest):
        # Names after an option, which argparse of older Pythons leaves over.
        given.more, rest = [*given.more, *rest], []
    if rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if given.verb == "completion" and given.what in completion.SHELLS:
        print(completion.script(given.what, verbs=list(_verbs(top))))
        return 0
    access = find_access(server=given.server, token_file=given.token_file, ca=given.ca)
    try:
        given.act(Context(Client(access), given))
    except Failed as failed:
        if given.json and failed.problem:
            print(printable(json.dumps(failed.problem, indent=2, ensure_ascii=False)))
        raise
    return 0


def _verbs(top: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield each verb with the kind of name that it takes, or an empty text."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, one in action.choices.items():
                kinds = {a.dest for a in one._actions if not a.option_strings}
                yield verb, next((k for k in ("portfolio", "node") if k in kinds), "")
