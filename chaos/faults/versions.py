"""Nodes of another Python version, and revisions that lack a symbol which is held."""

from __future__ import annotations

from contextlib import suppress
from subprocess import Popen, TimeoutExpired
from typing import Any

import psutil

from chaos.faults.fault import Fault
from chaos.harness.another_python import FALSE_PYTHON
from chaos.runner.fault_context import PATIENCE, FaultContext

SYMBOLS = ["KO", "PEP", "IBM"]
LABEL = "drifted"


def version_drift(scene: FaultContext) -> None:
    """A node of another Python version joins: nothing moves to it, and the rows say why."""
    name = f"drift-{scene.rng.getrandbits(20):05x}"
    run = scene.portfolio(but=[n for n in scene.fleet.runs() if n.startswith("bad-")])
    daemon = _join(scene, name)
    scene.undo.callback(_leave, scene, name, daemon)
    known = scene.expect(
        lambda: scene.fleet.query(
            "SELECT 1 FROM scheduling_node WHERE name = %s AND python = %s", name, FALSE_PYTHON
        ),
        20 * PATIENCE,
        f"{name} registered with its version",
    )
    if not known:
        return
    answer = scene.ask("POST", f"/api/portfolios/{run.name}/migrate/", {"target_node": name})
    if answer is not None and answer.status == 202:
        scene.report("fault", f"a move of {run.name} to {name} was accepted", answer.json)
    # Only that node has the label, so that the balancer would have to choose it.
    path = f"/api/portfolios/{run.name}/"
    before = scene.ask("GET", path)
    if before is None or before.status != 200:
        return
    scene.undo.callback(scene.do, path, {"selector": before.json["selector"]}, "PATCH")
    if scene.do(path, {"selector": {LABEL: "yes"}}, "PATCH"):
        scene.expect(
            lambda: "and Python 3." in scene.fleet.run(run.name).reason,
            20 * PATIENCE,
            f"the row of {run.name} says that {name} has another Python version",
            "I8",
        )
    for moved in scene.fleet.on(name):
        scene.report("fault", f"{moved} was moved to {name}", {})


def _join(scene: FaultContext, name: str) -> Popen[str]:
    token = scene.fleet.node_token(name)
    return scene.fleet.launch_node(
        name,
        scene.fleet.access["url"],
        token,
        "--label",
        f"{LABEL}=yes",
        program="chaos.harness.another_python",
    )


def _leave(scene: FaultContext, name: str, daemon: Popen[str]) -> None:
    daemon.terminate()
    with suppress(TimeoutExpired):
        daemon.wait(20)
    if daemon.poll() is None:
        daemon.kill()
    scene.fleet.manage("forget_node", name, check=False)


def dropped_symbol(scene: FaultContext) -> None:
    """A fall-back to a revision that lacks a symbol in use: it is filled and marked on."""
    name = f"drops-{scene.rng.getrandbits(20):05x}"
    path = f"/api/portfolios/{name}/"
    scene.touch(name)
    scene.undo.callback(scene.do, path, None, "DELETE")
    body = {"name": name, "strategy": "buy_and_hold", "symbols": SYMBOLS[:2]}
    if not scene.do("/api/portfolios/", body):
        return

    def shows(what: str, look: Any, limit_s: float = 30 * PATIENCE) -> bool:
        return scene.expect(lambda: look(_of(scene, path)), limit_s, f"{name} {what}", "I3")

    if not shows("proven", lambda p: p["good_revision"] == 1 and len(_prices(p)) == 2):
        return
    answer = scene.ask("PATCH", path, {"symbols": SYMBOLS[:1]})
    if answer is not None and answer.status < 500 and answer.json.get("code") != "symbol_in_use":
        scene.report("fault", f"{name} may drop symbols that it holds", answer.json)
    scene.do(path, {"symbols": SYMBOLS}, "PATCH")
    if not shows("ordering what r2 adds", lambda p: SYMBOLS[2] in _ordered(scene, name)):
        return
    with suppress(psutil.Error):  # before r2 is proven
        psutil.Process(_of(scene, path)["run"]["pid"]).kill()
    scene.sleep(2)
    if _of(scene, path)["good_revision"] == 2:
        scene.note(f"{name} was proven before its process was killed")
        return
    shows("back on r1", lambda p: (p["run"]["revision"], p["run"]["phase"]) == (1, "running"))
    if shows("holding what r1 lacks", lambda p: SYMBOLS[2] in _prices(p)):
        mark = _prices(_of(scene, path))[SYMBOLS[2]]
        shows("marked on", lambda p: _prices(p).get(SYMBOLS[2]) not in (None, mark))
    verdict = scene.fleet.manage("verify_portfolio", name, check=False)
    scene.note(f"{name}: {verdict.get('sentence') or verdict.get('message')}")
    if verdict.get("state") == "different":
        scene.report("I3", f"{name} differs from its uninterrupted run", verdict)


def _of(scene: FaultContext, path: str) -> dict[str, Any]:
    answer = scene.ask("GET", path)
    if answer is None or answer.status != 200:
        raise OSError(f"{path} was not answered")
    found: dict[str, Any] = answer.json
    return found


def _ordered(scene: FaultContext, name: str) -> set[str]:
    found = scene.fleet.query(
        "SELECT o.symbol FROM portfolios_order o JOIN portfolios_portfolio p"
        " ON p.id = o.portfolio_id WHERE p.name = %s AND o.status IN ('open', 'filled')",
        name,
    )
    return {row[0] for row in found}


def _prices(portfolio: dict[str, Any]) -> dict[str, str]:
    return {p["symbol"]: p["price"] for p in portfolio["account"]["positions"] or []}


FAULTS = (
    Fault("version-drift", version_drift, 12),
    Fault("revision-drops-held-symbol", dropped_symbol, 30),
)
