"""Why a start was refused, as a sentence."""

from __future__ import annotations


class StartupError(Exception):
    """The launcher will not go on. The text is printed alone, with exit code 1."""
