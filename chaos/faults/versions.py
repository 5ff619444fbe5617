"""Nodes of another Python version, and revisions that lack a held symbol."""

from __future__ import annotations

from contextlib import suppress
from subprocess import Popen
from typing import Any

import psutil

from chaos.faults.fault import Fault
from chaos.harness.another_python import FALSE_PYTHON
from chaos.harness.processes import end_process
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext

SYMBOLS = ["KO", "PEP", "IBM"]
LABEL = "drifted"


def version_drift(context: FaultContext) -> None:
    """A node of another Python version joins; nothing moves to it, and a reason is shown."""
    name = f"drift-{context.rng.getrandbits(20):05x}"
    run = context.choose_portfolio(but=[n for n in context.cluster.runs() if n.startswith("bad-")])
    url, token = context.cluster.access["url"], context.cluster.create_node_token(name)
    label, program = ("--label", f"{LABEL}=yes"), "chaos.harness.another_python"
    daemon = context.cluster.launch_node(name, url, token, *label, program=program)
    context.undo.callback(_forget_node, context, name, daemon)
    is_registered = context.expect(
        lambda: context.cluster.query(
            "SELECT 1 FROM scheduling_node WHERE name = %s AND python = %s", name, FALSE_PYTHON
        ),
        20 * BUDGET_FACTOR,
        f"{name} registered with its Python version",
    )
    if not is_registered:
        return
    answer = context.request("POST", f"/api/portfolios/{run.name}/migrate/", {"target_node": name})
    if answer is not None and answer.status == 202:
        context.report("fault", f"a move of {run.name} to {name} was accepted", answer.json)
    # Only the new node has the label, so the balancer could choose no other.
    path = f"/api/portfolios/{run.name}/"
    before = context.request("GET", path)
    if before is None or before.status != 200:
        return
    context.undo.callback(context.call_api, path, {"selector": before.json["selector"]}, "PATCH")
    if context.call_api(path, {"selector": {LABEL: "yes"}}, "PATCH"):
        context.expect(
            lambda: "and Python 3." in context.cluster.run(run.name).reason,
            20 * BUDGET_FACTOR,
            f"the reason of {run.name} names the other Python version of {name}",
            "I8",
        )
    for moved in context.cluster.portfolios_on(name):
        context.report("fault", f"{moved} was moved to {name}", {})


def _forget_node(context: FaultContext, name: str, daemon: Popen[str]) -> None:
    """End the daemon, and forget its node."""
    end_process(daemon, 20)
    context.cluster.manage("forget_node", name, check=False)


def dropped_symbol(context: FaultContext) -> None:
    """A rollback to a revision that lacks a held symbol; its orders fill and its price updates."""
    name = f"drops-{context.rng.getrandbits(20):05x}"
    path = f"/api/portfolios/{name}/"
    if not context.create_portfolio(name, strategy="buy_and_hold", symbols=SYMBOLS[:2]):
        return

    def shows(what: str, holds: Any) -> bool:
        """Expect `holds` to be true of the portfolio that the API shows. Return whether it was."""
        return context.expect(
            lambda: holds(_read_portfolio(context, path)),
            30 * BUDGET_FACTOR,
            f"{name} {what}",
            "I3",
        )

    if not shows("proven", lambda p: p["good_revision"] == 1 and len(_position_prices(p)) == 2):
        return
    answer = context.request("PATCH", path, {"symbols": SYMBOLS[:1]})
    if answer is not None and answer.status < 500 and answer.json.get("code") != "symbol_in_use":
        context.report("fault", f"{name} was allowed to drop a symbol that it holds", answer.json)
    context.call_api(path, {"symbols": SYMBOLS}, "PATCH")
    if not shows(
        "ordering what r2 adds", lambda p: SYMBOLS[2] in _symbols_with_orders(context, name)
    ):
        return
    # An exit before r2 is proven takes the portfolio back to r1.
    with suppress(psutil.Error):
        psutil.Process(_read_portfolio(context, path)["run"]["pid"]).kill()
    context.sleep(2)
    if _read_portfolio(context, path)["good_revision"] == 2:
        context.note(f"r2 of {name} was proven before its process was killed")
        return
    shows("back on r1", lambda p: (p["run"]["revision"], p["run"]["phase"]) == (1, "running"))
    if shows("holding what r1 lacks", lambda p: SYMBOLS[2] in _position_prices(p)):
        before = _position_prices(_read_portfolio(context, path))[SYMBOLS[2]]
        shows("priced anew", lambda p: _position_prices(p).get(SYMBOLS[2]) not in (None, before))
    verdict = context.cluster.manage("verify_portfolio", name, check=False)
    context.note(f"{name}: {verdict.get('sentence') or verdict.get('message')}")
    if verdict.get("state") == "different":
        context.report("I3", f"{name} differs from its reference run", verdict)


def _read_portfolio(context: FaultContext, path: str) -> dict[str, Any]:
    """Return a portfolio as the API shows it, or raise OSError: `expect` then asks again."""
    answer = context.request("GET", path)
    if answer is None or answer.status != 200:
        raise OSError(f"GET {path} was not answered")
    found: dict[str, Any] = answer.json
    return found


def _symbols_with_orders(context: FaultContext, name: str) -> set[str]:
    found = context.cluster.query(
        "SELECT o.symbol FROM portfolios_order o JOIN portfolios_portfolio p"
        " ON p.id = o.portfolio_id WHERE p.name = %s AND o.status IN ('open', 'filled')",
        name,
    )
    return {row[0] for row in found}


def _position_prices(portfolio: dict[str, Any]) -> dict[str, str]:
    return {p["symbol"]: p["price"] for p in portfolio["account"]["positions"] or []}


FAULTS = (
    Fault("version-drift", version_drift, 12),
    Fault("revision-drops-held-symbol", dropped_symbol, 30),
)
