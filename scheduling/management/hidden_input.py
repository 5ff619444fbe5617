"""Read a secret from the terminal or standard input: all users of a machine can read arguments."""

from __future__ import annotations

import getpass
import sys

from scheduling.errors import Invalid


def read_hidden(field: str, prompt: str, most: int = -1) -> str:
    """Return what is typed at the prompt, without an echo; without a terminal, standard input.

    Read at most `most` characters of standard input, all of it with -1. Return "" if the input ends
    at once. Raise Invalid, which names `field`, if it is not UTF-8 text.
    """
    try:
        text = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.read(most)
        text.encode()  # without a locale, Python reads other bytes as halves of surrogate pairs
    except EOFError:
        return ""
    except UnicodeError:
        message = f"the {field} is not UTF-8 text."
        raise Invalid([{"field": field, "code": "invalid", "message": message}]) from None
    return text
