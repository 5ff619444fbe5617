#!/usr/bin/env python3
"""Django's command line for this project."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the management command named on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ginkgo_site.settings")
    from django.core.management import execute_from_command_line

    from portfolios.runtime.closed_output import ends_with_its_reader
    from scheduling.request_origin import acting_from, of_command

    name = sys.argv[1] if len(sys.argv) > 1 else ""
    with ends_with_its_reader(), acting_from(of_command(name)):
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
