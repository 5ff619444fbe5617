"""Two real web processes: a frozen one loses no node, and what waited in it renews no lease."""

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
from scheduling.models import Gateway, Lease, NodeToken
from scheduling.models.tokens import hash_token, new_token
from scheduling.timing import Timing
from scheduling.wire.messages import Heartbeat, encode
from tests.support.factories import FakeNode, ago, make_node
from tests.support.web_process import running_web_process

pytestmark = pytest.mark.django_db(transaction=True)

#: As short as the settings below; a gap is two heartbeats then.
TIMES = Timing(heartbeat_interval_s=1.0, lease_ttl_s=4.0)
SHORT = {"GINKGO_HEARTBEAT_INTERVAL_S": "1", "GINKGO_LEASE_TTL_S": "4", "GINKGO_HTTPS": "no"}


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
    with running_web_process(first, **SHORT) as one, running_web_process(second, **SHORT) as other:
        assert sender.beat(one) == 200
        frozen = sender.gateway()
        assert frozen.pid is not None
        # Both have served for longer than a lease: what follows is judged.
        Gateway.objects.update(serving_since=ago(60))
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            late: list[int] = []
            sending = threading.Thread(target=lambda: late.append(sender.beat(one)))
            sending.start()  # it waits in the socket of the frozen process
            eventually(lambda: Lease.objects.filter(node=node, expires_at__lt=ago(0)).exists())
            assert Gateway.objects.exclude(pk=frozen.pk).get().pulsed_at > ago(2)
            assert lost() == []
            eventually(
                lambda: Gateway.objects.filter(pk=frozen.pk, pulsed_at__lt=ago(2.5)).exists()
            )
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        sending.join(SLOW_MACHINE_S)
        assert late == [503]  # its sender may have died meanwhile
        assert sender.beat(other) == 200
        assert sender.gateway().pk != frozen.pk
        # Now it is silent, both serve, and its silence counts.
        eventually(lambda: Gateway.objects.filter(pk=frozen.pk, pulsed_at__gt=ago(2)).exists())
        assert eventually(lost) == ["node-1"]
    assert not Gateway.objects.filter(left_at=None).exists()  # both stopped in order
