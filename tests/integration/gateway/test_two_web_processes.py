"""Two web processes: a frozen one loses no node, and its queued heartbeats renew no lease."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from chaos.harness.installation import SLOW_MACHINE_S, eventually
from scheduling.db.transaction import execute_autocommit
from scheduling.enact.lease import mark_lost
from scheduling.models import Gateway, Lease, Node, NodeToken
from scheduling.models.tokens import hash_token, new_token
from scheduling.timing import Timing
from scheduling.wire.messages import Heartbeat, encode
from tests.support.factories import FakeNode, ago, make_node
from tests.support.web_process import running_web_process

pytestmark = pytest.mark.django_db(transaction=True)

#: As in the settings below; a gap is two heartbeats then. A frozen process protects nodes for one
#: lease: it is long for what the test waits for, and ended in the table.
TIMES = Timing(heartbeat_interval_s=1.0, lease_ttl_s=20.0)
LIMITS = {"GINKGO_HEARTBEAT_INTERVAL_S": "1", "GINKGO_LEASE_TTL_S": "20", "GINKGO_HTTPS": "no"}


class Sender:
    """A daemon as far as its heartbeats go."""

    def __init__(self, node: FakeNode) -> None:
        self.node, self.token = node, new_token()
        NodeToken.objects.create(node=node.row, sha256=hash_token(self.token))

    def beat(self, url: str) -> int:
        """Send one heartbeat to this web process. Return the HTTP status of the answer."""
        to = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SLOW_MACHINE_S)
        words = encode(Heartbeat(incarnation=str(self.node.incarnation), have_version=0))
        to.request(
            "POST", "/api/agent/heartbeat/", words, {"Authorization": f"Bearer {self.token}"}
        )
        answer = to.getresponse()
        body = answer.read()
        to.close()
        if answer.status == 200:
            assert msgspec.msgpack.decode(body)["status"] == "ok"
        return answer.status

    def gateway(self) -> Gateway:
        return Gateway.objects.get(pk=str(Lease.objects.get(node=self.node.row).gateway_id))


def end_lease(node: Node) -> None:
    """Let a lease be over, as after that long without a heartbeat."""
    Lease.objects.filter(node=node).update(expires_at=ago(0.1))


def lost() -> list[str]:
    return [row.name for row in execute_autocommit(mark_lost(TIMES))]


@pytest.mark.slow
def test_a_frozen_web_process_loses_no_node_and_renews_no_lease_with_old_heartbeats(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    sender = Sender(make_node("node-1"))
    node = sender.node.row
    with (
        running_web_process(first, **LIMITS) as one,
        running_web_process(second, **LIMITS) as other,
    ):
        eventually(lambda: sender.beat(one) == 200, what="an answer")
        frozen = sender.gateway()
        assert frozen.pid is not None
        # Both have served for longer than a lease: what follows is judged.
        Gateway.objects.update(serving_since=ago(60))
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            late: list[int] = []
            sending = threading.Thread(target=lambda: late.append(sender.beat(one)))
            sending.start()  # it waits in the socket of the frozen process
            eventually(lambda: Gateway.objects.filter(pk=frozen.pk, pulsed_at__lt=ago(4)).exists())
            end_lease(node)
            pulses = Gateway.objects.exclude(pk=frozen.pk)
            eventually(lambda: pulses.get().pulsed_at > ago(2), what="a pulse of the other")
            assert lost() == []
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        sending.join(SLOW_MACHINE_S)
        assert late == [503]  # its sender may have died meanwhile
        eventually(lambda: sender.beat(other) == 200, what="an answer of the other")
        assert sender.gateway().pk != frozen.pk
        # Now it is silent, both serve, and its silence counts.
        eventually(lambda: Gateway.objects.filter(pk=frozen.pk, pulsed_at__gt=ago(2)).exists())
        end_lease(node)
        assert eventually(lost) == ["node-1"]
    assert not Gateway.objects.filter(left_at=None).exists()  # both stopped in order
