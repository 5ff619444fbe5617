"""A node of the fleet whose token is in the wrong hands."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

import msgspec

from chaos.faults.fault import Fault
from chaos.harness.hostile_node import ATTACKS, start_attack
from chaos.runner.fault_context import PATIENCE, FaultContext
from scheduling.wire.messages import PROTOCOL, Goodbye, Halted, Heartbeat, Register, encode

NAME = "hostile"
ATTACK_S = 3.0


def hostile_node(scene: FaultContext) -> None:
    """A node attacks: it reports for another, takes its incarnation, and sends all it can."""
    token, mine = scene.fleet.node_token(NAME), str(uuid.uuid4())
    if _ask(scene, token, "register", _registration(mine))[0] != 200:
        return  # the web may be away by another fault
    scene.undo.callback(_leave, scene, token, mine)
    _impersonate(scene, token, mine)
    said: dict[str, dict[str, int]] = {}
    for name in ATTACKS:
        attacker = start_attack(name, scene.fleet.access["url"], token, mine, ATTACK_S)
        scene.undo.callback(attacker.kill)
        end = time.monotonic() + ATTACK_S + 20 * PATIENCE
        while attacker.poll() is None and time.monotonic() < end:
            # Else it would be called lost, which is no more than it deserves and none of I9's.
            _ask(scene, token, "heartbeat", Heartbeat(incarnation=mine, have_version=10**9))
            scene.sleep(0.5)
        attacker.kill()
        said[name] = json.loads(attacker.communicate()[0] or "{}")
    scene.note(f"answers to the hostile node: {said}")


def _impersonate(scene: FaultContext, token: str, mine: str) -> None:
    """Say in the name of another node that its portfolio halted, and register as it."""
    victim = next(run for run in scene.fleet.runs().values() if run.node not in (None, NAME))
    report = Halted(portfolio=_id_of(scene, victim.name), epoch=victim.epoch, seq=0, age_s=99.0)
    for incarnation in (mine, str(victim.incarnation)):
        words = Heartbeat(incarnation=incarnation, have_version=0, reports=[report])
        _ask(scene, token, "heartbeat", words)
    taken = _ask(scene, token, "register", _registration(str(victim.incarnation)))
    if taken[0] == 200:
        scene.report("fault", "a node registered under the incarnation of another", taken[1])
    now = scene.fleet.runs()[victim.name]
    if now.phase == "halted":
        scene.report("fault", f"a node halted {victim.name}, which another owns", {})


def _id_of(scene: FaultContext, name: str) -> int:
    ((number,),) = scene.fleet.query(
        "SELECT id FROM portfolios_portfolio WHERE name = %s AND archived_at IS NULL", name
    )
    return int(number)


def _registration(incarnation: str) -> Register:
    """Return that of a node that can run nothing: nothing is placed on it."""
    return Register(
        protocol=PROTOCOL,
        incarnation=incarnation,
        host="elsewhere",
        pid=1,
        version="0",
        capacity=1,
        labels={},
        strategies={},
        feeds={},
    )


def _leave(scene: FaultContext, token: str, incarnation: str) -> None:
    """Say goodbye, so that nobody waits for it, and have it forgotten."""
    _ask(scene, token, "goodbye", Goodbye(incarnation=incarnation, reason="the attack is over"))
    scene.ask("DELETE", f"/api/nodes/{NAME}/")


def _ask(scene: FaultContext, token: str, path: str, words: Any) -> tuple[int, Any]:
    """Return status and answer, 0 where none came."""
    request = urllib.request.Request(
        f"{scene.fleet.access['url']}/api/agent/{path}/",
        encode(words),
        {"Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10 * PATIENCE) as answer:
            return answer.status, msgspec.msgpack.decode(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.reason
    except OSError as error:
        return 0, str(error)


FAULTS = (Fault("hostile-node", hostile_node, 35, moves_nothing=True),)
