"""Run the embedded PostgreSQL of one home in the foreground, and print its DATABASE_URL.

python -m ginkgo_site.launcher.postgres --home FOLDER
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.postgres.server import EmbeddedPostgres


def main(argv: Sequence[str] | None = None) -> int:
    """Run one server in the foreground until a signal or its own end."""
    parser = argparse.ArgumentParser(
        prog="python -m ginkgo_site.launcher.postgres", description="Run the embedded PostgreSQL."
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for data and log")
    server = EmbeddedPostgres(parser.parse_args(argv).home.absolute())

    def end(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        process = server.start()
        server.wait_until_ready()
        for note in server.notes:
            print(note, file=sys.stderr)
        print(f"DATABASE_URL={server.url}", flush=True)
        return process.wait()
    except StartupError as reason:
        print(f"ginkgo: {reason}", file=sys.stderr)
        return 1
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
