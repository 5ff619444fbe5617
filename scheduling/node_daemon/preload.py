"""Preload the forkserver: the runtime and the built-in strategies, shared by every child.

External strategies are imported in the child that needs them, so that a broken or greedy one
cannot harm the process from which all others are forked.
"""

from __future__ import annotations

import gc


def warm_up() -> None:
    """Import what children need and freeze it, so that its memory pages stay shared."""
    import portfolios.runtime.worker
    import portfolios.strategies.registry  # noqa: F401 - imports the built-ins, nothing from outside
    from portfolios.runtime.readable_paths import readable_paths
    from portfolios.runtime.unprivileged import unreadable_folder

    readable_paths()
    unreadable_folder()
    gc.collect()
    gc.freeze()
