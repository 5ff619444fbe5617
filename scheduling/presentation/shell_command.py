"""Shell lines of commands, complete: they run as pasted on the machine of the server."""

from __future__ import annotations

import sys
from shlex import quote

from django.conf import settings

from ginkgo_site.env import CHECKOUT


def shell_line(command: str = "") -> str:
    """Return the line that runs `manage.py COMMAND` from any folder, for this installation."""
    home = settings.GINKGO.home
    setting = "" if home == CHECKOUT / ".ginkgo" else f"GINKGO_HOME={quote(str(home))} "
    return (
        f"{setting}{quote(sys.executable)} {quote(str(CHECKOUT / 'manage.py'))} {command}".strip()
    )
