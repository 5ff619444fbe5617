"""Accept another Python version for portfolios."""

from __future__ import annotations

import re
from collections.abc import Sequence

from portfolios import validation
from scheduling.db.transaction import execute
from scheduling.enact import python_versions
from scheduling.errors import Invalid
from scheduling.operations.lookup import existing_portfolio

MINOR_VERSION = re.compile(r"3\.[0-9]{1,2}")


def accept_python(
    version: str, names: Sequence[str] | None, *, actor: str, reason: str = ""
) -> list[str]:
    """Let the named portfolios, or with None all portfolios, also run under the Python `version`.

    An empty version withdraws the consent. Return the names of the changed portfolios. Raise
    Invalid for another text than 3.N, NotFound for an unknown name: nothing has changed then.
    """
    if version and not MINOR_VERSION.fullmatch(version):
        message = f"{version[:40]!r} is not a minor version of Python; give a version such as 3.13."
        raise Invalid([validation.error("version", "wrong_value", message)])
    for name in names or ():
        existing_portfolio(name)
    return execute(python_versions.accept_python(version, names, actor=actor, reason=reason))
