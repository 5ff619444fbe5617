"""The error by which the launcher refuses to start or to go on."""

from __future__ import annotations


class StartupError(Exception):
    """The launcher will not go on. The text is printed alone, with exit code 1."""
