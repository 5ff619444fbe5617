"""Import what a process starts with, and nothing that it will not use."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

#: What Django REST framework imports if it is installed, for clients in tests and for pages that
#: show the API to a browser: nothing here has these, and they are a tenth of a start.
UNUSED = ("markdown", "pygments", "requests")


def set_up_django(*, set_prefix: bool = True) -> None:
    """Import settings and models, of which the garbage collector looks at nothing, now or later.

    None of it is garbage, and to look for some is a quarter of the time of a short command.
    """
    gc.disable()
    import django

    django.setup(set_prefix=set_prefix)
    gc.freeze()
    gc.enable()


def import_rest_framework() -> None:
    """Import Django REST framework as if nothing of UNUSED were installed.

    Call it while no other thread imports.
    """
    if "rest_framework.compat" in sys.modules:
        return
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import_module("rest_framework.compat")
    finally:
        for name in hidden:
            del sys.modules[name]
