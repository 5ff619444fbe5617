"""Run one of many changes of a pass, so that its failure does not keep the pass from the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import Error as DjangoDatabaseError
from psycopg.errors import DeadlockDetected, LockNotAvailable

from scheduling.db.transaction import CONNECTION_LOST, Transaction, execute
from scheduling.errors import Refused

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def attempt(change: Callable[P, Transaction[T]], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Run one change and return its outcome, or None if it is left to the next pass.

    It is left to that pass if it was refused, met a locked row, or failed with an internal error.
    Raise if the database is unavailable.
    """
    logged_args = ", ".join(str(each) for each in args if isinstance(each, (int, str)))
    name = f"{getattr(change, '__name__', 'change')}({logged_args})"
    try:
        return execute(change(*args, **kwargs))
    except Refused as refused:
        logger.info("%s is left to the next pass: %s", name, refused)
    except (LockNotAvailable, DeadlockDetected) as busy:
        logger.info("%s is left to the next pass: %s", name, type(busy).__name__)
    except (*CONNECTION_LOST, DjangoDatabaseError):
        raise  # the database is unavailable: the other changes would fail too
    except Exception:
        logger.exception("%s failed, a defect to report; it is left to the next pass", name)
    return None
