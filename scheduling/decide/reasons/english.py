"""The catalogue of reasons in English, which is also the text stored on rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Params = Mapping[str, Any]
Sentence = Callable[[Params], str]


def number(value: float) -> str:
    """Return a number as shown on screens in every language: 1,000 and 2.5, never 2.0."""
    return f"{int(value):,}" if value == int(value) else f"{round(value, 3):,}"


def count(value: float, one: str, many: str | None = None) -> str:
    """Return `1 place`, `2 places`."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def _load(before: float, after: float, capacity: float) -> str:
    return f"{number(before)} → {number(after)} of {number(capacity)}"


# Placements and moves


def _target(p: Params) -> str:
    """Explain the choice of the target: `node-3 has the lowest load of 2 nodes: 2 → 3 of 5`."""
    load = _load(p["load_before"], p["load_after"], p["capacity"])
    name = p["target"]
    match p["how"]:
        case "pinned":
            return f"pinned to {name}: load {load}"
        case "prepared":
            return f"{name} has already prepared it: load {load}"
        case "suspect":
            return f"no alive node has room; {name} is suspect but has room: load {load}"
        case "failed":
            return (
                f"no other node has room; {name} again, where it failed to start twice: load {load}"
            )
    if p["of"] == 1:
        return f"{name} is the only eligible node: load {load}"
    return f"{name} has the lowest load of {number(p['of'])} nodes: {load}"


def _place(p: Params) -> str:
    if p["pinned"]:
        return f"pinned to {p['pinned']}, which cannot take it now; {_target(p)}"
    return _target(p)


def _failover(p: Params) -> str:
    if p["source"] is None:
        gone = "its node is no longer known"
    elif p["source_status"] == "left":
        gone = f"{p['source']} has left"
    else:
        gone = f"{p['source']} is lost"
    return f"{gone}; {_target(p)}"


def _drain(p: Params) -> str:
    return f"{p['source']} is draining; {_target(p)}"


def _rebalance(p: Params) -> str:
    return f"rebalances load: {_source_and_target_loads(p)}"


def _rebalance_cpu(p: Params) -> str:
    source, target, share = p["source_cpu"], p["target_cpu"], p["share"]
    return (
        f"rebalances CPU: {p['source']} {_per_cent(source, source - share)}, "
        f"{p['target']} {_per_cent(target, target + share)}"
    )


def _per_cent(before: float, after: float) -> str:
    return f"{round(before)} → {round(after)} %"


def _makes_room(p: Params) -> str:
    return f"makes room for {p['for']}: {_source_and_target_loads(p)}"


def _source_and_target_loads(p: Params) -> str:
    """Return the loads of source and target, before → after the move."""
    after = p["source_load"] - p["weight"]
    source = _load(p["source_load"], after, p["source_capacity"])
    target = _load(p["load_before"], p["load_after"], p["capacity"])
    return f"{p['source']} {source}, {p['target']} {target}"


def _rule_broken(p: Params) -> str:
    return f"{p['source']} no longer meets its requirements; {_target(p)}"


def _spread(p: Params) -> str:
    return f"another member of spread group {p['group']} runs on {p['source']}; {_target(p)}"


# No node takes it


def _needs(p: Params) -> str:
    """Return `gpu=yes and strategy sma_cross 1`, or an empty string."""
    parts = (
        p["selector"],
        f"strategy {p['strategy']}" if p["strategy"] else "",
        f"feed {p['feed']}" if p["feed"] else "",
        _python(p),
        _artifact_python(p),
    )
    return " and ".join(part for part in parts if part)


def _artifact_python(p: Params) -> str:
    """Return `Python >=3.12 for momentum 2.0`, or an empty string."""
    needs = p.get("artifact_python")
    return f"Python {needs} for {p['artifact']}" if needs else ""


def _python(p: Params) -> str:
    """Return `Python 3.11`, or with an accepted version `Python 3.11 or 3.12`, or ``."""
    versions = (p.get("python"), p.get("accept_python"))
    found = " or ".join(version for version in versions if version)
    return f"Python {found}" if found else ""


def _no_python(p: Params) -> str:
    return (
        f"last ran under {_python(p)}: {_zero_of(p)}, found Python {', '.join(p['found'])}; "
        "start a node with it, or allow another version with accept_python"
    )


def _zero_of(p: Params) -> str:
    have = "has" if p["nodes"] == 1 else "have"
    return f"0 of {_nodes(p)} {have} it"


def _nodes(p: Params) -> str:
    """Return `3 nodes`, or `2 other nodes` for a portfolio that runs and should leave its node."""
    return count(p["nodes"], "other node" if p["other"] else "node")


def _no_nodes(p: Params) -> str:
    return f"needs {count(p['weight'], 'place')}: there is no node yet; start one with run_node"


def _no_other_node(p: Params) -> str:
    return f"needs {count(p['weight'], 'place')} elsewhere: there is no other node; add one"


def _no_live_node(p: Params) -> str:
    alive = "is alive" if p["nodes"] == 1 else "are alive"
    return (
        f"needs {count(p['weight'], 'place')}: 0 of {_nodes(p)} {alive}; start one again or add one"
    )


def _no_selector(p: Params) -> str:
    return f"needs {p['selector']}: {_zero_of(p)}; add the label to one node or drop the selector"


def _no_strategy(p: Params) -> str:
    return (
        f"needs strategy {p['strategy']}: {_zero_of(p)}; "
        "install it on one node or change the portfolio's strategy"
    )


def _no_artifact_python(p: Params) -> str:
    return (
        f"needs {_artifact_python(p)}: {_zero_of(p)}, found Python {', '.join(p['found'])}; "
        "start a node with it, or build the artifact for one of these"
    )


def _no_feed(p: Params) -> str:
    return (
        f"needs feed {p['feed']} with sha256 {p['feed_sha']}…: {_zero_of(p)}; "
        "install the same data on one node"
    )


def _no_match(p: Params) -> str:
    return (
        f"needs {_needs(p)}: 0 of {_nodes(p)} have all of it; "
        "install what is missing on one node or reduce the requirements"
    )


def _too_heavy(p: Params) -> str:
    where = f" with {p['selector']}" if p["selector"] else ""
    return (
        f"needs {count(p['weight'], 'place')} on one node: the largest of "
        f"{_nodes(p)}{where} has {number(p['largest'])}; "
        "raise a node's capacity or lower the weight"
    )


def _no_room(p: Params) -> str:
    states = ", ".join(f"{state['node']} {_short(state, p['group'])}" for state in p["states"])
    if p["more"]:
        rest = ", ".join(f"{number(n)} {code}" for code, n in p["more"].items())
        states = f"{states} and {number(sum(p['more'].values()))} more ({rest})"
    where = f" with {p['selector']}" if p["selector"] else ""
    found = f"no room on {_nodes(p)}{where}: {states}"
    return f"needs {count(p['weight'], 'place')}: {found}; {_help(p)}"


def _short(state: Params, group: str) -> str:
    """Return `8 of 8`, `draining`, `runs another member of alpha`."""
    match state["state"]:
        case "full":
            return f"{number(state['load'])} of {number(state['capacity'])}"
        case "spread":
            return f"runs another member of {group}"
    return str(state["state"])


def _help(p: Params) -> str:
    match p["remedy"]:
        case "cordoned":
            return f"uncordon {p['remedy_node']} or add a node"
        case "draining":
            return f"undo the drain of {p['remedy_node']} or add a node"
        case "flapping":
            return "wait until the flapping node is stable or add a node"
        case "spread":
            return "add a node or make the spread group soft"
    return "add a node, raise a capacity or stop a portfolio"


# Waiting


def _waits_for_room(p: Params) -> str:
    moves = " and ".join(f"{move['portfolio']} is on {move['target']}" for move in p["moves"])
    once = moves or "the portfolios leaving it have moved"
    return f"needs {count(p['weight'], 'place')}: {p['node']} has room once {once}"


def _pin_waits(p: Params) -> str:
    return f"cannot move to its pinned node: {on_node(p['state'])}; unpin it or make room there"


def _frozen(p: Params) -> str:
    what = {"drain": "its node is draining", "pin": "it is pinned elsewhere"}.get(
        p["cause"], "its node no longer meets its requirements"
    )
    return f"{what}, but automatic moves are frozen; unfreeze, or migrate it manually"


def _frozen_failover(p: Params) -> str:
    lost = f"{p['node'] or 'its node'} is lost"
    return f"{lost}, but failover is frozen; unfreeze, or migrate it manually"


def _storm_hold(p: Params) -> str:
    node = p["node"] or "its node"
    if p.get("by"):
        return f"{node} is lost, but {p['by']} holds failover; release the hold, or migrate it"
    return (
        f"{node} was lost together with many others, so failover is held; "
        "it continues when they come back, or release the hold"
    )


def _storm_late(p: Params) -> str:
    late = ", ".join(p["late"])
    verb = "is" if len(p["late"]) == 1 else "are"
    return (
        f"{p['node'] or 'its node'} is lost and {late} {verb} late: failover waits until it is "
        "known whether they were lost together"
    )


def _after_storm(p: Params) -> str:
    return (
        f"{p['node'] or 'its node'} was lost in a storm: failover continues with "
        f"{number(p['limit'])} per pass, and it waits for its turn"
    )


def _backing_off(p: Params) -> str:
    return f"the last attempt failed; the next one starts in {number(max(1, round(p['wait_s'])))} s"


def _halted_all(p: Params) -> str:
    why = f": {p['why']}" if p["why"] else ""
    return (
        f"stopped with all others by {p['actor']}{why}; "
        f"start it, or undo halt {p['halt']} to start all that it stopped"
    )


# One node, as shown to an operator


def on_node(p: Params) -> str:
    """Return whether one node takes a portfolio, and if not, why: `node-2 lacks gpu=yes`."""
    node = p["node"]
    match p["state"]:
        case "lost":
            return f"{node} is lost"
        case "left":
            return f"{node} has left"
        case "selector":
            return f"{node} lacks {p['selector']}"
        case "strategy":
            return f"{node} lacks strategy {p['strategy']}"
        case "feed":
            return f"{node} lacks feed {p['feed']} with sha256 {p['feed_sha']}…"
        case "python":
            return (
                f"{node} has Python {p['node_python']}, but it last ran under {_python(p)}: "
                "allow another version with accept_python"
            )
        case "artifact":
            return f"{node} has Python {p['node_python']}, but it needs {_artifact_python(p)}"
        case "draining":
            return f"{node} is draining: it takes no new portfolios"
        case "cordoned":
            return f"{node} is cordoned: it takes no new portfolios"
        case "flapping":
            wait = f"it can be chosen again in {number(round(p['wait_s']))} s"
            return f"{node} was lost repeatedly: {wait}"
        case "spread":
            return f"{node} runs another member of spread group {p['group']}"
        case "full":
            return (
                f"{node} is full: load {number(p['load'])} of {number(p['capacity'])}, "
                f"it needs {number(p['weight'])}"
            )
        case "failed_there":
            return f"it failed to start on {node} twice"
        case "same_node":
            return f"it already runs on {node}"
        case "suspect":
            return f"{node} is suspect: a heartbeat is missing"
        case "fits":
            load = _load(p["load"], p["load"] + p["weight"], p["capacity"])
            return f"{node} can take it: load {load}"
    return f"{node} is busy with other handoffs"


def _would_place(p: Params) -> str:
    load = _load(p["load_before"], p["load_after"], p["capacity"])
    return f"would be placed on {p['node']}: load {load}"


def _would_wait(p: Params) -> str:
    return "would be pending"


def _in_handoff(p: Params) -> str:
    return "is in a handoff already; wait until it has ended"


def _needs_start(p: Params) -> str:
    return "does not run: it is stopped, halted or quarantined; start it first"


def _symbol_in_use(p: Params) -> str:
    return (
        f"runs {p['running']} until positions are closed: it holds or has ordered "
        f"{', '.join(p['symbols'])}, which the wanted {p['wanted']} lacks"
    )


def _older_revision(p: Params) -> str:
    if p.get("artifact"):
        return (
            f"runs {p['running']}: {p['node']} has Python {p['node_python']}, the wanted "
            f"{p['wanted']} needs {_artifact_python(p)}, and {number(p['having'])} of "
            f"{count(p['nodes'], 'node')} can run it; migrate it to such a node"
        )
    have = "has" if p["having"] == 1 else "have"
    return (
        f"runs {p['running']}: {p['node']} lacks strategy {p['strategy']}, which the wanted "
        f"{p['wanted']} needs, and {number(p['having'])} of {count(p['nodes'], 'node')} {have} it; "
        f"install it on {p['node']}"
    )


# Lost nodes


def plain(value: float) -> str:
    """Return 30.4, 30 for 30.0, and 1234.5: as PostgreSQL writes it, which stores the sentence."""
    return repr(round(float(value), 1)).removesuffix(".0")


def clock_of(iso: str) -> str:
    """Return `20:32:38 UTC` of `2026-03-02T20:32:38Z`."""
    return f"{iso[11:19]} UTC"


def _lost(p: Params) -> str:
    """Return why a lease ended. `enact/lease/loss.py` stores the same text."""
    silent, limit = plain(p["silent_s"]), plain(p["limit_s"])
    match p["cause"]:
        case "closed":
            return (
                f"its connection closed {clock_of(p['at'])} and it did not return in "
                f"{plain(p['grace_s'])} s"
            )
        case "ended":
            return f"its process was found ended at {clock_of(p['at'])}"
        case "unheard":
            unheard = plain(p["unheard_s"])
            return (
                f"{silent} s without a heartbeat after {unheard} s without an answer, "
                f"limit {limit} s"
            )
    return f"{silent} s without a heartbeat, limit {limit} s"


def _suspect(p: Params) -> str:
    if p["closed_at"]:
        return f"its connection closed {clock_of(p['closed_at'])}"
    return f"{plain(p['silent_s'])} s without a heartbeat, limit {plain(p['limit_s'])} s"


def _node_lost(p: Params) -> str:
    """Return the text of the alert, as `enact/alerts.py` stores it."""
    return f"{p['node']} is lost since {p['since'][11:19]} UTC: {_lost(p['loss'])}"


# Edits


def duration(seconds: float, units: tuple[str, str, str, str] = ("s", "min", "h", "days")) -> str:
    """Return `5 s`, `12 min`, `3 h` or `4 days`."""
    for limit, size, unit in zip((120, 7200, 172_800), (1, 60, 3600), units[:3], strict=True):
        if seconds < limit:
            return f"{number(int(max(seconds, 0) // size))} {unit}"
    return f"{number(int(seconds // 86_400))} {units[3]}"


def _changed_meanwhile(p: Params) -> str:
    """Return `r3 by ann 5 s ago changed quantity 100 → 200`, an edit after the other."""
    return "; ".join(map(_edit, p["edits"])) or "it is as it was again"


def _edit(e: Params) -> str:
    revision = f"{e['revision_name']} by " if e["revision_name"] else ""
    who = revision + (e["actor"] or "an unknown person")
    when = "" if e["ago_s"] is None else f" {duration(e['ago_s'])} ago"
    return f"{who}{when} changed {', '.join(map(_changed_field, e['fields']))}"


def _changed_field(f: Params) -> str:
    before = "unset" if f["before"] is None else f["before"]
    after = "unset" if f["after"] is None else f["after"]
    return f"{f['name']} {before} → {after}"


# Roll-outs


def _roll_out_deleted(p: Params) -> str:
    return "was deleted"


def _roll_out_changed(p: Params) -> str:
    return f"an operator changed it to {p['revision']} meanwhile, so it is left as it is"


def _roll_out_not_running(p: Params) -> str:
    return f"is {p['state']}, so it is left as it is; start it, then roll out again"


def _roll_out_interrupted(p: Params) -> str:
    return f"is {p['state']} before {p['revision']} was proven; it runs once it is started"


def _roll_out_no_owner(p: Params) -> str:
    return f"had no owner for {number(p['limit_s'])} s, so it is left as it is"


def _roll_out_in_handoff(p: Params) -> str:
    return f"was in another handoff for {number(p['limit_s'])} s, so it is left as it is"


def _roll_out_no_good(p: Params) -> str:
    return (
        f"had no proven revision to fall back to for {number(p['limit_s'])} s, so it is left as it "
        "is; roll out again once its revision is good, or edit it by itself"
    )


def _roll_out_python(p: Params) -> str:
    return (
        f"{p['node']} has Python {p['node_python']}, but it needs {_artifact_python(p)}, so it is "
        "left as it is; migrate it first"
    )


def _roll_out_rejected(p: Params) -> str:
    return f"{p['revision']} was rejected: {p['error']}"


def _roll_out_late(p: Params) -> str:
    return f"did not run {p['revision']} within {number(p['limit_s'])} s; see its handoffs"


def _roll_out_unproven(p: Params) -> str:
    return f"runs {p['revision']}, which no event has proven within {number(p['limit_s'])} s"


def _roll_out_not_begun(p: Params) -> str:
    return "the roll-out ended before its turn, so it is left as it is"


def _roll_out_returned_stopped(p: Params) -> str:
    return f"is {p['state']}; it runs {p['revision']} once it is started"


def _roll_out_stopped(p: Params) -> str:
    inner = SENTENCES.get(p["code"])
    return f"stopped at {p['portfolio']}" + (f": {inner(p['params'])}" if inner else "")


def _roll_out_stopped_by(p: Params) -> str:
    return f"stopped by {p['actor']}" + (f": {p['reason']}" if p["reason"] else "")


SENTENCES: dict[str, Sentence] = {
    "place": _place,
    "failover": _failover,
    "drain": _drain,
    "pin": _target,
    "rebalance": _rebalance,
    "rebalance_cpu": _rebalance_cpu,
    "makes_room": _makes_room,
    "rule_broken": _rule_broken,
    "spread": _spread,
    "no_nodes": _no_nodes,
    "no_other_node": _no_other_node,
    "no_live_node": _no_live_node,
    "no_selector": _no_selector,
    "no_strategy": _no_strategy,
    "no_feed": _no_feed,
    "no_python": _no_python,
    "no_artifact_python": _no_artifact_python,
    "no_match": _no_match,
    "too_heavy": _too_heavy,
    "no_room": _no_room,
    "waits_for_room": _waits_for_room,
    "pin_waits": _pin_waits,
    "frozen": _frozen,
    "frozen_failover": _frozen_failover,
    "storm_hold": _storm_hold,
    "storm_late": _storm_late,
    "after_storm": _after_storm,
    "backing_off": _backing_off,
    "halted_all": _halted_all,
    "symbol_in_use": _symbol_in_use,
    "older_revision": _older_revision,
    "on_node": on_node,
    "would_place": _would_place,
    "would_wait": _would_wait,
    "in_handoff": _in_handoff,
    "needs_start": _needs_start,
    "lost": _lost,
    "suspect": _suspect,
    "node_lost": _node_lost,
    "changed_meanwhile": _changed_meanwhile,
    "roll_out_deleted": _roll_out_deleted,
    "roll_out_changed": _roll_out_changed,
    "roll_out_not_running": _roll_out_not_running,
    "roll_out_interrupted": _roll_out_interrupted,
    "roll_out_no_owner": _roll_out_no_owner,
    "roll_out_no_good": _roll_out_no_good,
    "roll_out_in_handoff": _roll_out_in_handoff,
    "roll_out_python": _roll_out_python,
    "roll_out_rejected": _roll_out_rejected,
    "roll_out_late": _roll_out_late,
    "roll_out_unproven": _roll_out_unproven,
    "roll_out_not_begun": _roll_out_not_begun,
    "roll_out_returned_stopped": _roll_out_returned_stopped,
    "roll_out_stopped": _roll_out_stopped,
    "roll_out_stopped_by": _roll_out_stopped_by,
}
