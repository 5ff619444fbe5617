"""What every portfolio process has in memory before it is forked: the runtime and the built-ins.

Strategies from outside are imported in the child that needs one, so that a broken or greedy one
cannot poison the process all others come from.
"""

from __future__ import annotations

import gc


def warm_up() -> None:
    """Import what children need and freeze it, so that their pages stay shared."""
    import portfolios.runtime.worker
    import portfolios.strategies.registry  # noqa: F401 - imports the built-ins, nothing from outside
    from portfolios.runtime.readable_paths import readable_paths
    from portfolios.runtime.unprivileged import unreadable_folder

    readable_paths()
    unreadable_folder()
    gc.collect()
    gc.freeze()
