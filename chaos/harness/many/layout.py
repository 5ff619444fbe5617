"""Where the servers of the fleet `many` are: a pure function of one number and the home.

Each PostgreSQL and each web process has a network namespace. One bridge joins web processes and
HAProxy, the other web processes, PostgreSQL and etcd. A port that is taken off its bridge loses
every packet in both directions, and neither side is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEBS = (1, 2, 3)
POSTGRES = (1, 2, 3)
WEB_PORT = 8000
POSTGRES_PORT = 5432
PATRONI_PORT = 8008
REDIS_PORT = 6379

SUPERUSER_PASSWORD = "super"
REPLICATION_PASSWORD = "replica"
PASSWORD = "for-tests"


@dataclass(frozen=True)
class Layout:
    """The addresses of one installation."""

    number: int  #: third octet of its two networks, also in the names of its interfaces
    home: Path

    @property
    def front(self) -> str:
        """This machine's address on the network of HAProxy, web processes and Redis."""
        return f"10.231.{self.number}.1"

    @property
    def inner(self) -> str:
        """This machine's address on the network of the database."""
        return f"10.232.{self.number}.1"

    @property
    def inner_network(self) -> str:
        """The network that joins web processes, PostgreSQL and etcd, in CIDR notation."""
        return f"10.232.{self.number}.0/24"

    def web_host(self, web: int) -> str:
        """The address at which HAProxy reaches a web process."""
        return f"10.231.{self.number}.{10 + web}"

    def web_inner(self, web: int) -> str:
        """The address from which a web process reaches PostgreSQL."""
        return f"10.232.{self.number}.{10 + web}"

    def postgres_host(self, server: int) -> str:
        """The address of a PostgreSQL server and its Patroni."""
        return f"10.232.{self.number}.{20 + server}"

    @property
    def etcd(self) -> str:
        """Host and port of etcd, on the network of the database."""
        return f"{self.inner}:2379"

    @property
    def redis_url(self) -> str:
        """The address of Redis."""
        return f"redis://{self.front}:{REDIS_PORT}/0"

    @property
    def database_url(self) -> str:
        """The address of the database for Ginkgo: every server, of which it finds the primary."""
        return self._url("ginkgo", PASSWORD)

    @property
    def admin_url(self) -> str:
        """The address of the database for its superuser."""
        return self._url("postgres", SUPERUSER_PASSWORD)

    def server_url(self, server: int, database: str = "ginkgo") -> str:
        """The address of one server as superuser, whether primary or not."""
        return (
            f"postgresql://postgres:{SUPERUSER_PASSWORD}@{self.postgres_host(server)}:"
            f"{POSTGRES_PORT}/{database}?connect_timeout=2"
        )

    def _url(self, user: str, password: str) -> str:
        hosts = ",".join(f"{self.postgres_host(server)}:{POSTGRES_PORT}" for server in POSTGRES)
        return (
            f"postgresql://{user}:{password}@{hosts}/ginkgo"
            "?target_session_attrs=read-write&connect_timeout=2"
        )

    def web_space(self, web: int) -> str:
        """The network namespace of a web process."""
        return f"gk{self.number}-web-{web}"

    def postgres_space(self, server: int) -> str:
        """The network namespace of a PostgreSQL server."""
        return f"gk{self.number}-pg-{server}"

    def web_link(self, web: int) -> str:
        """The interface that joins a web process to the inner bridge."""
        return f"gk{self.number}w{web}d"

    def postgres_link(self, server: int) -> str:
        """The interface that joins a PostgreSQL server to the inner bridge."""
        return f"gk{self.number}p{server}d"

    @property
    def front_bridge(self) -> str:
        """The bridge of HAProxy and web processes."""
        return f"gk{self.number}front"

    @property
    def inner_bridge(self) -> str:
        """The bridge of web processes, PostgreSQL and etcd."""
        return f"gk{self.number}inner"
