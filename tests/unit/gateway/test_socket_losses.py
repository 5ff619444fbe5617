"""Whose fault is a closed socket? All of two or more at once are ours, one alone is its own."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from scheduling.gateway.socket_losses import SERVER_CLOSE_CODES, SIMULTANEOUS_S, SocketLossTracker


def opened(count: int) -> tuple[SocketLossTracker, list[UUID]]:
    """Return the sockets of a web process, so many of them open."""
    losses, sockets = SocketLossTracker(), [uuid4() for _ in range(count)]
    for socket in sockets:
        losses.opened(socket)
    return losses, sockets


def close(losses: SocketLossTracker, sockets: list[UUID], *at_s: float) -> None:
    for socket, second in zip(sockets, at_s, strict=False):
        losses.closed(socket, second)


def test_the_only_socket_that_closes_is_its_own_fault() -> None:
    losses, sockets = opened(1)
    close(losses, sockets, 10.0)
    assert losses.all_at_once() is False


def test_one_of_three_is_its_own_fault() -> None:
    losses, sockets = opened(3)
    close(losses, sockets, 10.0)
    assert losses.all_at_once() is False


def test_two_of_three_are_their_own_fault() -> None:
    losses, sockets = opened(3)
    close(losses, sockets, 10.0, 10.1)
    assert losses.all_at_once() is False


def test_all_of_three_at_once_are_ours() -> None:
    losses, sockets = opened(3)
    close(losses, sockets, 10.0, 10.1, 10.2)
    assert losses.all_at_once() is True


@pytest.mark.parametrize(("gap_s", "ours"), [(0.9, True), (1.1, False)])
def test_at_once_means_within_the_time_that_is_waited_before_judging(
    gap_s: float, ours: bool
) -> None:
    losses, sockets = opened(2)
    close(losses, sockets, 10.0, 10.0 + gap_s * SIMULTANEOUS_S)
    assert losses.all_at_once() is ours


def test_one_after_the_other_over_time_is_each_its_own_fault() -> None:
    losses, sockets = opened(2)
    close(losses, sockets, 10.0, 60.0)
    assert losses.all_at_once() is False


def test_once_one_is_back_a_single_loss_is_its_own_fault_again() -> None:
    losses, sockets = opened(2)
    close(losses, sockets, 10.0, 10.1)
    back = uuid4()
    losses.opened(back)
    assert losses.all_at_once() is False
    losses.closed(back, 12.0)
    assert losses.all_at_once() is False


@pytest.mark.parametrize("code", [1000, 1005, 1006, 1002])
def test_what_a_peer_closes_with_is_the_peers_word(code: int) -> None:
    assert code not in SERVER_CLOSE_CODES


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
def test_our_shutdown_and_our_ping_timeout_are_not(code: int) -> None:
    assert code in SERVER_CLOSE_CODES
