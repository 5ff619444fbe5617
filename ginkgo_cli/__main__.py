"""`python -m ginkgo_cli`."""

from __future__ import annotations

import io
import os
import sys

from ginkgo_cli.client import Failed
from ginkgo_cli.tables import printable
from ginkgo_cli.verbs import main


def run() -> int:
    """Run one command. Return its exit code: 0 done, 1 refused or failed, 130 interrupted.

    argparse exits with 2 for an invalid command line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not have every character
    try:
        return main(sys.argv[1:])
    except Failed as failed:
        sys.stderr.write(f"{printable(str(failed))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; a request that was already made continues.\n")
        return 130
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it. Python flushes the output at
        # exit, which must not fail on the closed pipe either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(run())
