"""The entry point: run a verb, and turn its failure into a sentence and an exit code."""

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
    if sys.stdout is None:  # closed by the caller, as by `>&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not have every character
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()  # what cannot be written fails here, not at exit
        return code
    except Failed as failed:
        sys.stderr.write(f"{printable(str(failed))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; a request that was already made continues.\n")
        return 130
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it.
        _drop_output()
        return 0
    except OSError as error:  # such as a full disk; an OSError of a request becomes Failed
        _drop_output()
        sys.stderr.write(f"The output cannot be written: {error.strerror}.\n")
        return 1


def _drop_output() -> None:
    """Send the output to /dev/null, so that the flush at exit does not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(run())
