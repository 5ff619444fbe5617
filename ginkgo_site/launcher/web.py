"""The command line of a web process, the same for launcher, tests and bench."""

from __future__ import annotations

import sys

#: Deadlines and limits of connections. Messages to the server over a websocket are short: a daemon
#: sends its Hello, a page sends nothing.
LIMIT_ARGUMENTS = ("--http", "ginkgo_site.http_limits:GuardedHttp", "--ws-max-size", "65536")


def web_command(host: str, port: int | str) -> list[str]:
    """Return the command line of a web process that listens on this host and port."""
    return [
        *(sys.executable, "-m", "uvicorn", "ginkgo_site.asgi:application"),
        *("--host", host, "--port", str(port)),
        *("--lifespan", "on", "--timeout-graceful-shutdown", "10"),
        # By default uvicorn trusts the X-Forwarded-For of every process on this machine.
        "--no-proxy-headers",
        *LIMIT_ARGUMENTS,
        *("--no-access-log", "--no-server-header", "--log-level", "warning"),
    ]
