"""What of the environment no strategy needs: the secrets of the product, and those of others."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: PG…: with a DATABASE_URL without a password, libpq takes it from these. The others are what is
#: in the environment of many a machine for other programs.
_SECRET = re.compile(
    r"DATABASE_URL|REDIS_URL|PG[A-Z]+|.*(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|PRIVATE_KEY|API_?KEY"
    r"|ACCESS_KEY).*",
    re.IGNORECASE,
)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a process with strategies in it may have. Pure."""
    return {name: value for name, value in environment.items() if not _SECRET.fullmatch(name)}
