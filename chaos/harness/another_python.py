"""Node daemon that reports a false Python version: `python -m chaos.harness.another_python`.

Only for faults. The product has no such setting, since a false version would defeat the check.
"""

from __future__ import annotations

import sys

from scheduling.node_daemon import daemon
from scheduling.node_daemon.cli import main

FALSE_PYTHON = "3.99"

if __name__ == "__main__":
    daemon.PYTHON_VERSION = FALSE_PYTHON
    sys.exit(main())
