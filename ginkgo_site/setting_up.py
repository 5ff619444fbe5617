"""Set up Django in a process that has just started."""

from __future__ import annotations

import gc


def set_up_django(*, set_prefix: bool = True) -> None:
    """Import settings and models, of which the garbage collector looks at nothing, now or later.

    None of it is garbage, and to look for some is a quarter of the time of a short command.
    """
    gc.disable()
    import django

    django.setup(set_prefix=set_prefix)
    gc.freeze()
    gc.enable()
