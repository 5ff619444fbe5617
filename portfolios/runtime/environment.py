"""The environment of processes that run strategies: only variables that a list allows.

A list of forbidden variables would miss the secret of the next program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Names of more variables that strategies may have, separated by commas.
MORE_VARIABLE = "GINKGO_STRATEGY_ENVIRONMENT"
#: Paths that strategies may not read, wherever they are, separated by colons.
HIDES_VARIABLE = "GINKGO_STRATEGY_HIDES"

_ALLOWED = re.compile(
    # Of the system: where programs and the user are, language and time zone.
    r"PATH|HOME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TZDIR|TMPDIR"
    # Of Python, its packages and the linker.
    r"|PYTHON[A-Z]+|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|LD_PRELOAD|MALLOC_[A-Z_]+|COVERAGE_[A-Z_]+"
    # How many threads a numerical library starts, and how it computes.
    r"|[A-Z]+_NUM_THREADS|(OMP|MKL|OPENBLAS|NUMBA|NPY|KMP)_[A-Z_]+"
    # Certificates, for strategies that may use the network.
    r"|SSL_CERT_(FILE|DIR)"
    # Of Ginkgo: paths, names and limits. GINKGO_ENCRYPTION_KEYS_FILE is the path that is hidden.
    r"|GINKGO_(HOME|FEED|STRATEGIES|STRATEGY_[A-Z]+|ENCRYPTION_KEYS_FILE)"
)
#: Forbidden even if GINKGO_STRATEGY_ENVIRONMENT names them.
_NEVER = re.compile(
    r"DATABASE_URL|REDIS_URL|PG[A-Z]+"
    r"|GINKGO_(NODE_TOKEN|SECRET_KEY|ENCRYPTION_KEYS|ALERT_URL|NATS_URL)"
)


def strategy_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a process which runs strategies may have. Pure."""
    more = {name.strip() for name in environment.get(MORE_VARIABLE, "").split(",")}
    return {
        name: value
        for name, value in environment.items()
        if _ALLOWED.fullmatch(name) or (name in more and not _NEVER.fullmatch(name))
    }
