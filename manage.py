#!/usr/bin/env python3
"""Django's command line for this project."""

from __future__ import annotations

import os
import sys

#: Commands that serve until they are ended, by the names of their processes.
SERVING = {"run_watcher": "watcher", "qcluster": "worker"}


def main() -> None:
    """Run the management command named on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ginkgo_site.settings")
    from django.core.management import execute_from_command_line

    from ginkgo_site.django_start import set_up_django
    from ginkgo_site.sessions import name_process
    from portfolios.runtime.closed_output import exits_on_closed_output
    from scheduling.request_origin import acting_from, of_command

    name = sys.argv[1] if len(sys.argv) > 1 else ""
    recording = sys.argv[1:3] == ["feed", "record"]
    name_process("recorder" if recording else SERVING.get(name, name))
    if name in SERVING or name == "migrate" or recording:
        from ginkgo_site.database import refuse_unusable_database

        refuse_unusable_database()
    set_up_django()
    from django.db import OperationalError

    try:
        with exits_on_closed_output(), acting_from(of_command(name)):
            execute_from_command_line(sys.argv)
    except OperationalError as error:
        # One of Django's own commands: those of this project say it themselves. What a server
        # refuses has an SQLSTATE.
        if getattr(error.__cause__, "sqlstate", None) or "--traceback" in sys.argv:
            raise
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        sys.exit(f"The database does not answer: {why}. Start it, or correct DATABASE_URL.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while the command was loaded, or in one of Django's own
        sys.exit("Interrupted.")
