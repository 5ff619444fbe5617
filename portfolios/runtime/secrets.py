"""Remove secrets from the environment of strategies: those of Ginkgo and of other programs."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: PG…: if DATABASE_URL has no password, libpq reads it from these. The other patterns match secrets
#: of other programs that are commonly in the environment.
_SECRET = re.compile(
    r"DATABASE_URL|REDIS_URL|PG[A-Z]+|.*(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|PRIVATE_KEY|API_?KEY"
    r"|ACCESS_KEY).*",
    re.IGNORECASE,
)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a process which runs strategies may have. Pure."""
    return {name: value for name, value in environment.items() if not _SECRET.fullmatch(name)}
