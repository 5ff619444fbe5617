"""The address that a request came from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from django.conf import settings
from django.http import HttpRequest

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(request: HttpRequest) -> str:
    """Return the client's address, or "" where there is none (a socket file, a test)."""
    return address_of(
        request.META.get("REMOTE_ADDR") or "",
        request.META.get("HTTP_X_FORWARDED_FOR") or "",
        trusted=settings.GINKGO.trusted_proxies,
    )


def address_of(peer: str, forwarded_for: str, *, trusted: Sequence[str]) -> str:
    """Return the last address that is not a trusted proxy, "" if `peer` is no address. Pure.

    Anyone can send X-Forwarded-For, so it is read only if the peer is a trusted proxy, and from the
    right: everything left of the last untrusted address is the client's claim.
    """
    networks = [ipaddress.ip_network(text) for text in trusted]
    # The last 20 are more than any chain of proxies, and bound what a client can make this read.
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()][-20:]
    address = _normalized(peer)
    while hops and _is_within(address, networks):
        claimed = _normalized(hops.pop())
        if not claimed:
            break  # invalid value from a trusted proxy: only its own address is known
        address = claimed
    return address


def neighbourhood(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 one. Pure.

    A text that is no address, such as "", counts as it is.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False).network_address)


def _normalized(text: str) -> str:
    """Return the canonical form of an IP address, "" if `text` is no address."""
    try:
        parsed = ipaddress.ip_address(text.strip())
    except ValueError:
        return ""
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def _is_within(address: str, networks: Sequence[_Network]) -> bool:
    if not address:
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks)
