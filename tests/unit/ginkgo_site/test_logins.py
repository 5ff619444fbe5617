"""Waits after wrong passwords, and the address that a request came from."""

from __future__ import annotations

import pytest

from ginkgo_site.web.client_address import address_of, neighbourhood
from ginkgo_site.web.logins import FORGET_S, MOST, Failures


def test_failed_logins_are_free_at_first_and_then_the_wait_doubles_up_to_its_limit() -> None:
    failures = Failures(free=2, first_s=2, longest_s=10)
    waits = []
    for _ in range(6):
        failures.add("k", now=100)
        waits.append(failures.wait_s("k", now=100))
    assert waits == [0, 0, 2, 4, 8, 10]
    assert failures.wait_s("k", now=109) == 1
    assert failures.wait_s("k", now=110) == 0
    assert failures.wait_s("other", now=100) == 0


def test_failed_logins_are_forgotten_after_a_quiet_time_or_a_success() -> None:
    failures = Failures(free=0, first_s=2, longest_s=10)
    failures.add("k", now=0)
    failures.add("k", now=FORGET_S + 1)
    assert failures.wait_s("k", now=FORGET_S + 1) == 2  # as after the first
    failures.forget("k")
    assert failures.wait_s("k", now=FORGET_S + 1) == 0


def test_number_of_remembered_login_names_is_bounded() -> None:
    failures = Failures(free=0, first_s=2, longest_s=10)
    for number in range(MOST + 10):
        failures.add(str(number), now=0)
    assert len(failures._seen) == MOST


@pytest.mark.parametrize(
    ("peer", "header", "trusted", "address"),
    [
        ("10.0.0.1", "", (), "10.0.0.1"),
        ("10.0.0.1", "9.9.9.9", (), "10.0.0.1"),  # anybody can send that
        ("10.0.0.1", "9.9.9.9", ("10.0.0.0/8",), "9.9.9.9"),
        ("10.0.0.1", "1.1.1.1, 9.9.9.9", ("10.0.0.1",), "9.9.9.9"),  # the left one is a claim
        ("10.0.0.1", "1.1.1.1, 9.9.9.9, 10.0.0.2", ("10.0.0.0/8",), "9.9.9.9"),
        ("10.0.0.1", "9.9.9.9, nonsense", ("10.0.0.0/8",), "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::1", ("10.0.0.0/8",), "2001:db8::1"),
        ("", "9.9.9.9", ("10.0.0.0/8",), ""),
    ],
)
def test_client_address_is_the_last_one_that_is_no_trusted_proxy(
    peer: str, header: str, trusted: tuple[str, ...], address: str
) -> None:
    assert address_of(peer, header, trusted=trusted) == address


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff:1") == "2001:db8::"
    assert neighbourhood("10.0.0.1") == "10.0.0.1"
    assert neighbourhood("") == ""
