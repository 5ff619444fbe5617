"""`python -m ginkgo_site.launcher`, which bin/up executes."""

from __future__ import annotations

import sys

from ginkgo_site.env import InvalidSetting, read_environment
from ginkgo_site.launcher.cli import parse
from ginkgo_site.launcher.launcher import Launcher
from portfolios.runtime.closed_output import exits_on_closed_output
from portfolios.runtime.open_files import TooFewFiles, raise_open_file_limit


def main() -> int:
    """Read the command line and the environment, then run the installation."""
    options = parse()
    try:
        environment = read_environment()
        raise_open_file_limit()
    except (InvalidSetting, TooFewFiles) as wrong:
        print(f"ginkgo: {wrong}", file=sys.stderr)
        return 1
    return Launcher(options, environment).run()


if __name__ == "__main__":
    with exits_on_closed_output():
        sys.exit(main())
