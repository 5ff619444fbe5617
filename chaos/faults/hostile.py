"""A hostile node with a valid token."""

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
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext
from scheduling.wire.messages import (
    PROTOCOL,
    Goodbye,
    Halted,
    Heartbeat,
    LogLine,
    LogRequest,
    Register,
    StreamLines,
    encode,
)

NAME = "hostile"
ATTACK_S = 3.0  #: duration of each attack
#: A `have_version` above that of every desired set, so that the answer brings none.
ABOVE_EVERY_VERSION = 10**9


def hostile_node(context: FaultContext) -> None:
    """A node impersonates another in reports and registration, and sends hostile requests."""
    token, incarnation = context.cluster.create_node_token(NAME), str(uuid.uuid4())
    status, _ = ask_gateway(context, token, "register", _registration(incarnation))
    if status != 200:
        return  # another fault may keep the web process down
    context.undo.callback(_leave, context, token, incarnation)
    _impersonate(context, token, incarnation)
    responses: dict[str, dict[str, int]] = {}
    for name in ATTACKS:
        attacker = start_attack(name, context.cluster.access["url"], token, incarnation, ATTACK_S)
        context.undo.callback(attacker.kill)
        end = time.monotonic() + ATTACK_S + 20 * BUDGET_FACTOR
        while attacker.poll() is None and time.monotonic() < end:
            # Without heartbeats the node would rightly be marked lost, and the run would report it.
            beat = Heartbeat(incarnation=incarnation, have_version=ABOVE_EVERY_VERSION)
            ask_gateway(context, token, "heartbeat", beat)
            context.sleep(0.5)
        attacker.kill()
        responses[name] = json.loads(attacker.communicate()[0] or "{}")
    context.note(f"responses to the hostile node: {responses}")


def _impersonate(context: FaultContext, token: str, incarnation: str) -> None:
    """Pose as another node: halt its portfolio, write into its log, register as its incarnation."""
    victim = next(run for run in context.cluster.runs().values() if run.node not in (None, NAME))
    ((portfolio,),) = context.cluster.query(
        "SELECT id FROM portfolios_portfolio WHERE name = %s AND archived_at IS NULL", victim.name
    )
    report = Halted(portfolio=portfolio, epoch=victim.epoch, seq=0, age_s=99.0)
    for sender in (incarnation, str(victim.incarnation)):
        message = Heartbeat(incarnation=sender, have_version=0, reports=[report])
        ask_gateway(context, token, "heartbeat", message)
        stream = StreamLines(report.portfolio, victim.epoch, None, [LogLine(0, "forged")])
        forged = LogRequest(sender, str(uuid.uuid4()), [stream])
        status, answer = ask_gateway(context, token, "log", forged)
        if status == 200 and answer["written"]:
            context.report("fault", f"a node wrote into the log of {victim.name}", answer)
    status, answer = ask_gateway(context, token, "register", _registration(str(victim.incarnation)))
    if status == 200:
        context.report("fault", "a node registered under the incarnation of another", answer)
    now = context.cluster.runs()[victim.name]
    if now.phase == "halted":
        context.report("fault", f"a node halted {victim.name}, which another node owns", {})


def _registration(incarnation: str) -> Register:
    """Return the registration of a node without strategies: nothing is placed on it."""
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


def _leave(context: FaultContext, token: str, incarnation: str) -> None:
    """Say goodbye, so that the node's lease need not expire, and forget the node."""
    goodbye = Goodbye(incarnation=incarnation, reason="the attack is over")
    ask_gateway(context, token, "goodbye", goodbye)
    context.request("DELETE", f"/api/nodes/{NAME}/")


def ask_gateway(context: FaultContext, token: str, path: str, message: Any) -> tuple[int, Any]:
    """Send the message, and return status and decoded body of the response.

    A refusal has its HTTP reason in place of the body. Without a response: 0 and the error.
    """
    request = urllib.request.Request(
        f"{context.cluster.access['url']}/api/agent/{path}/",
        encode(message),
        {"Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10 * BUDGET_FACTOR) as answer:
            return answer.status, msgspec.msgpack.decode(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.reason
    except OSError as error:
        return 0, str(error)


FAULTS = (Fault("hostile-node", hostile_node, 38, moves_nothing=True),)
