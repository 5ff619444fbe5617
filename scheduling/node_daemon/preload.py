"""Preload a forkserver: the runtime, the built-in strategies and the packages of an environment.

External strategies are imported in the child that needs them, so that a broken or greedy one
cannot harm the process from which all others are forked.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec


def import_runtime() -> None:
    """Import the runtime, and compute once what each child would compute."""
    import portfolios.runtime.worker
    import portfolios.strategies.registry  # noqa: F401 - imports the built-ins, nothing from outside
    from portfolios.runtime.readable_paths import readable_paths
    from portfolios.runtime.unprivileged import unreadable_folder

    readable_paths()
    unreadable_folder()


def import_packages(modules: Sequence[str]) -> None:
    """Import packages of an environment. Children import one that fails here, and report why."""
    for name in modules:
        try:
            import_module(name)
        except BaseException as error:  # code from outside may raise anything
            sys.stderr.write(f"{name} cannot be preloaded: {type(error).__name__}: {error}\n")


def list_changed_folders() -> None:
    """List anew the folders on the path that have changed, while this process still may.

    In the sandbox, the folder that holds the installation's home cannot be listed, although its
    other entries can be read. Python lists a folder again once a file was added to it; if it had to
    do so in the sandbox, it would find no module there.
    """
    find_spec("no module has this name, so that all folders are looked at")


def freeze() -> None:
    """Exempt everything imported from garbage collection, which would unshare its memory."""
    gc.collect()
    gc.freeze()
