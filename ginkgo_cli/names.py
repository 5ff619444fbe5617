"""Names of portfolios and nodes: a beginning is enough if only one name has it."""

from __future__ import annotations

import difflib
from typing import Literal

from ginkgo_cli.client import Client, Failed

Kind = Literal["portfolio", "node"]


def resolve(client: Client, kind: Kind, given: str) -> str:
    """Return the one name that is `given` or begins with it.

    Raise Failed if no name or several names match; it shows similar names, or the matches.
    """
    return find(names_of(client, kind), kind, given)


def names_of(client: Client, kind: Kind) -> list[str]:
    """Return all names of a kind, sorted."""
    return sorted(row["name"] for row in client.rows(f"{kind}s/"))


def find(names: list[str], kind: Kind, given: str) -> str:
    """Return the one of `names` that is `given` or begins with it, as `resolve` does. Pure."""
    shown = given if len(given) <= 80 else f"{given[:79]}…"
    if given in names:
        return given
    begins = [name for name in names if name.startswith(given)]
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise Failed(f"{shown} could be {_alternatives(begins)}; write more of it.")
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    help_ = f"Did you mean {_alternatives(near)}?" if near else f"`ginkgo {kind}s` lists them."
    raise Failed(f"There is no {kind} {shown}. {help_}")


def _alternatives(names: list[str]) -> str:
    """Return `a`, `a, b or c`, or of more than five `a, b, c, d, e or one of 4 more`."""
    if len(names) > 5:
        return f"{', '.join(names[:5])} or one of {len(names) - 5} more"
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
