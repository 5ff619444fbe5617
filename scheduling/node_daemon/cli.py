"""Arguments of a daemon, shared by `python -m scheduling.node_daemon` and `run_node`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import cast

from portfolios.runtime.open_files import TooFewFiles, raise_open_file_limit
from scheduling.node_daemon.config import TOKEN_VARIABLE, make_config
from scheduling.node_daemon.errors import InvalidArguments
from scheduling.node_daemon.tls import tls_context


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a daemon."""
    parser.add_argument("--name", required=True, help="the node's name")
    parser.add_argument("--server", required=True, help="address, e.g. http://127.0.0.1:8000")
    for option, text in (
        ("--token-file", f"file with the node's token; default: the variable {TOKEN_VARIABLE}"),
        ("--ca", "authorities (PEM) that sign the server's certificate; default: the system's"),
        ("--client-cert", "certificate (PEM) to show to a proxy that asks for one"),
        ("--client-key", "its private key; default: in the file of --client-cert"),
    ):
        parser.add_argument(option, default="", metavar="PATH", help=text)
    # Hidden, since every user of the machine can read command lines.
    parser.add_argument("--token", default="", help=argparse.SUPPRESS)
    parser.add_argument(
        "--capacity", type=int, default=5, help="most that its portfolios may weigh together"
    )
    parser.add_argument("--label", action="append", default=[], metavar="K=V", help="repeatable")
    parser.add_argument("--json", action="store_true", help="log lines as JSON")


def run(arguments: argparse.Namespace | dict[str, object]) -> int:
    """Run a daemon with parsed arguments and return its exit code: 2 if they are invalid."""
    given = arguments if isinstance(arguments, dict) else vars(arguments)

    def path(option: str) -> str:
        """Return an option's path, resolved in the folder where bin/node was called; "": none."""
        named = str(given[option] or "")
        return os.path.join(str(given.get("folder") or ""), named) if named else ""

    try:
        raise_open_file_limit()
        config = make_config(
            name=str(given["name"]),
            server=str(given["server"]),
            token=str(given["token"] or ""),
            token_file=path("token_file"),
            capacity=int(str(given["capacity"])),
            labels=list(cast(list[str], given["label"])),
            json_logs=bool(given["json"]),
            tls=tls_context(
                str(given["server"]),
                ca=path("ca"),
                certificate=path("client_cert"),
                key=path("client_key"),
            ),
            client_key=path("client_key") or path("client_cert"),
        )
    except (InvalidArguments, TooFewFiles) as wrong:
        sys.stderr.write(f"{wrong}\n")
        return InvalidArguments.code
    from scheduling.node_daemon.forkserver_client import ForkserverClient

    forkserver = ForkserverClient(
        config.child_memory_mb, sandboxed=config.sandboxed, hidden=config.hidden
    )
    # The forkserver and this process each import for half a second. They do it at the same time,
    # since portfolios wait while a daemon that was killed starts again.
    forkserver.launch()
    try:
        from scheduling.node_daemon.main import run_daemon

        return run_daemon(config, forkserver)
    finally:
        forkserver.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` (None: that of this process), run a daemon, and return its exit code."""
    parser = argparse.ArgumentParser(prog="bin/node", description="Run an execution node.")
    add_arguments(parser)
    # The folder in which bin/node was called: it changes to the checkout before it runs this.
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    return run(parser.parse_args(argv))
