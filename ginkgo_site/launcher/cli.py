"""The command line of `bin/up`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The command line of `bin/up`, checked."""

    host: str
    port: int
    nodes: int  #: how many to start
    demo: bool  #: create the demo portfolios
    node_restart_s: float  #: from the end of a node to its restart
    fresh: bool  #: delete the data of earlier starts


def parse(argv: Sequence[str] | None = None) -> Options:
    """Return the options; exit with status 2 and a usage line if they are invalid."""
    parser = argparse.ArgumentParser(
        prog="bin/up",
        description="Start PostgreSQL, web, watcher, worker and demo nodes in the foreground.",
        epilog="Data and logs are kept in GINKGO_HOME (.ginkgo/ in the checkout by default). "
        "Ctrl-C stops in order, a second one at once.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one (%(default)s)")
    parser.add_argument("--nodes", type=_node_count, default=3, help="demo nodes (%(default)s)")
    no_demo = "create no demo portfolios"
    parser.add_argument("--no-demo", dest="demo", action="store_false", help=no_demo)
    parser.add_argument(
        "--node-restart",
        dest="node_restart_s",
        type=_seconds,
        default=15.0,
        metavar="SECONDS",
        help="seconds before a dead demo node restarts, so that its portfolios visibly move (15)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="delete the data kept in GINKGO_HOME first"
    )
    return Options(**vars(parser.parse_args(argv)))


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: give 0 to 65535")
    return int(text)


def _node_count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of nodes: give 0 to 50")
    if int(text) > 50:
        raise argparse.ArgumentTypeError(f"{text} nodes do not fit on one machine: give 0 to 50")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not a valid wait: give 0 to 86400 seconds")
    return value
