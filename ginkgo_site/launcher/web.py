"""The command line of a web process, the same for launcher, tests and bench."""

from __future__ import annotations

#: Deadlines and limits of connections. A daemon says its name over a socket, a page nothing at all.
GUARDED = ("--http", "ginkgo_site.connections:GuardedHttp", "--ws-max-size", "65536")
