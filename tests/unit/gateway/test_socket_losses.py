"""Attribution of closed websockets: all of two or more at once to the server, others to peers."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from scheduling.gateway.socket_losses import SERVER_CLOSE_CODES, SIMULTANEOUS_S, SocketLossTracker


def opened(count: int) -> tuple[SocketLossTracker, list[UUID]]:
    """Return the tracker of a web process and its `count` open sockets."""
    losses, sockets = SocketLossTracker(), [uuid4() for _ in range(count)]
    for socket in sockets:
        losses.opened(socket)
    return losses, sockets


def close(losses: SocketLossTracker, sockets: list[UUID], *at_s: float) -> None:
    for socket, second in zip(sockets, at_s, strict=False):
        losses.closed(socket, second)


def test_close_of_the_only_socket_is_attributed_to_the_peer() -> None:
    losses, sockets = opened(1)
    close(losses, sockets, 10.0)
    assert losses.all_at_once() is False


def test_close_of_one_of_three_is_attributed_to_the_peer() -> None:
    losses, sockets = opened(3)
    close(losses, sockets, 10.0)
    assert losses.all_at_once() is False


def test_close_of_two_of_three_is_attributed_to_the_peers() -> None:
    losses, sockets = opened(3)
    close(losses, sockets, 10.0, 10.1)
    assert losses.all_at_once() is False


def test_close_of_all_three_at_once_is_attributed_to_the_server() -> None:
    losses, sockets = opened(3)
    close(losses, sockets, 10.0, 10.1, 10.2)
    assert losses.all_at_once() is True


@pytest.mark.parametrize(("gap_s", "ours"), [(0.9, True), (1.1, False)])
def test_simultaneous_means_within_the_wait_before_the_decision(gap_s: float, ours: bool) -> None:
    losses, sockets = opened(2)
    close(losses, sockets, 10.0, 10.0 + gap_s * SIMULTANEOUS_S)
    assert losses.all_at_once() is ours


def test_separate_closes_are_attributed_to_the_peers() -> None:
    losses, sockets = opened(2)
    close(losses, sockets, 10.0, 60.0)
    assert losses.all_at_once() is False


def test_after_a_reconnect_a_single_close_is_attributed_to_the_peer() -> None:
    losses, sockets = opened(2)
    close(losses, sockets, 10.0, 10.1)
    back = uuid4()
    losses.opened(back)
    assert losses.all_at_once() is False
    losses.closed(back, 12.0)
    assert losses.all_at_once() is False


@pytest.mark.parametrize("code", [1000, 1005, 1006, 1002])
def test_close_codes_of_a_peer_are_not_server_codes(code: int) -> None:
    assert code not in SERVER_CLOSE_CODES


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
def test_codes_of_server_shutdown_and_ping_timeout_are_server_codes(code: int) -> None:
    assert code in SERVER_CLOSE_CODES
