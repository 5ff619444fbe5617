"""The address on which the web process listens."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass

from ginkgo_site.launcher.errors import StartupError


@dataclass(frozen=True)
class Address:
    """A host and a port that were free a moment ago."""

    host: str
    port: int

    @property
    def local_host(self) -> str:
        """The host by which this machine reaches the address."""
        if _is_unspecified(self.host):
            return "::1" if ":" in self.host else "127.0.0.1"
        return self.host

    @property
    def url(self) -> str:
        """The address to give to a browser or a node of this machine."""
        host = self.local_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def names(self) -> list[str]:
        """The host names that requests may carry, besides those of the loopback."""
        if _is_unspecified(self.host):
            return [socket.gethostname(), socket.getfqdn()]
        return [f"[{self.host}]" if ":" in self.host else self.host]

    def answers(self) -> bool:
        """Return whether something accepts a connection at the address within a second."""
        try:
            with socket.create_connection((self.local_host, self.port), timeout=1):
                return True
        except OSError:
            return False


def free_address(host: str, port: int) -> Address:
    """Return the address after trying to bind it; port 0 becomes a free one.

    Raises `StartupError` when the port is taken, not allowed, or the host is not of this machine.
    """
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            return Address(host, probe.getsockname()[1])
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise StartupError(
                f"Port {port} on {host} is in use by another program: stop it, or choose another "
                f"port with --port {port + 1 if port < 65535 else 8000}."
            ) from None
        if number in (errno.EACCES, errno.EPERM):
            raise StartupError(
                f"Port {port} on {host} may not be opened by this user: use one above 1023."
            ) from None
        why = error.strerror if isinstance(error, OSError) else "no host has such a name"
        raise StartupError(
            f"{host or 'The empty text'} is not an address of this machine ({why}): "
            "use --host 127.0.0.1 for this machine only, or --host 0.0.0.0 for all interfaces."
        ) from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
