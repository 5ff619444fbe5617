"""Throttle logins, and hash passwords without holding a database connection.

django-axes asks `Throttle` before it checks a password and reports every failure. Failures are
counted by (name, address) and by address, in this process. A name alone is never locked: anyone
could lock out an operator by guessing passwords from elsewhere.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from axes.backends import AxesStandaloneBackend
from axes.handlers.base import AbstractAxesHandler, AxesBaseHandler
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password, verify_password
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_noop

from ginkgo_site.web.busy import Busy, busy_response
from ginkgo_site.web.client_address import client_address, neighbourhood

#: Failures are forgotten after this long without another one.
FORGET_S = 3600.0
#: The most keys to remember (addresses, or names with addresses); the longest idle goes first.
MOST = 10_000
#: A hash keeps a processor busy for about 0.3 s: at most half of the processors hash at once.
HASHES_AT_ONCE = max(1, (os.cpu_count() or 2) // 2)
HASH_WAIT_S = 2.0


class Failures:
    """Failed logins by key (an address, or a name with it), and the wait that they cost.

    The first `free` failures cost none, the next one `first_s`, each further one twice as long, up
    to `longest_s`.
    """

    def __init__(self, free: int, first_s: float, longest_s: float) -> None:
        self._free, self._first_s, self._longest_s = free, first_s, longest_s
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, time of the last
        self._lock = threading.Lock()

    def wait_s(self, key: str, now: float) -> float:
        """Return the seconds that `key` still has to wait; 0 if it may try."""
        with self._lock:
            count, last = self._seen.get(key, (0, 0.0))
        if count <= self._free or now - last > FORGET_S:
            return 0.0
        doublings = min(count - self._free - 1, 20)  # a larger power may overflow
        return max(last + min(self._first_s * 2.0**doublings, self._longest_s) - now, 0.0)

    def add(self, key: str, now: float) -> None:
        """Count one more failure of this key."""
        with self._lock:
            count, last = self._seen.pop(key, (0, now))
            self._seen[key] = (1 if now - last > FORGET_S else count + 1, now)
            while len(self._seen) > MOST:
                self._seen.popitem(last=False)

    def forget(self, key: str) -> None:
        with self._lock:
            self._seen.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()


failures_by_name_and_address = Failures(free=4, first_s=2, longest_s=300)
failures_by_address = Failures(free=19, first_s=1, longest_s=60)


class Throttle(AbstractAxesHandler, AxesBaseHandler):
    """The handler that django-axes asks before a login and tells the result."""

    def is_locked(self, request: Any, credentials: Any = None) -> bool:
        """Return whether this name, from this address, has to wait."""
        return wait_s(request, (credentials or {}).get("username")) > 0

    def get_failures(self, request: Any, credentials: Any = None) -> int:
        """Return 0, as the interface requires a number. `is_locked` decides."""
        return 0

    def user_login_failed(
        self, sender: Any, credentials: Any, request: Any = None, **kwargs: Any
    ) -> None:
        """Count a wrong password, not one that was refused unchecked or came without a request."""
        if request is None:
            return
        request.axes_credentials = credentials  # axes passes them to `locked_out_response`
        if request.axes_locked_out:
            return
        now, name = time.monotonic(), (credentials or {}).get("username")
        address = neighbourhood(client_address(request))
        failures_by_name_and_address.add(_throttle_key(name, address), now)
        failures_by_address.add(address, now)

    def user_logged_in(self, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        """Forget the failures of this user, but not those of the address."""
        address = neighbourhood(client_address(request))
        failures_by_name_and_address.forget(_throttle_key(user.get_username(), address))

    def user_logged_out(self, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        """Do nothing."""


def wait_s(request: HttpRequest, name: str | None) -> float:
    """Return the seconds that a login of this name from the request's address has to wait."""
    now, address = time.monotonic(), neighbourhood(client_address(request))
    return max(
        failures_by_name_and_address.wait_s(_throttle_key(name, address), now),
        failures_by_address.wait_s(address, now),
    )


def _throttle_key(name: str | None, address: str) -> str:
    return f"{(name or '')[:150]}\n{address}"  # no user has a longer name


def locked_out_response(
    request: HttpRequest, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """Answer a login that has to wait: 429, and for how long."""
    name = (credentials or {}).get("username")
    left_s = max(math.ceil(wait_s(request, name)), 1)
    return busy_response(request, Busy(429, gettext_noop("Too many wrong passwords"), left_s))


class ThrottleBackend(AxesStandaloneBackend):
    """Refuses a login that has to wait, before its password is checked."""

    def authenticate(
        self, request: Any, username: Any = None, password: Any = None, **kwargs: Any
    ) -> None:
        """Raise axes' refusal of a login that has to wait; pass a login without a request."""
        if request is not None:
            super().authenticate(request, username=username, password=password, **kwargs)


class HashApartBackend(ModelBackend):
    """Check a few passwords at a time, without holding a database connection."""

    def authenticate(
        self, request: Any, username: Any = None, password: Any = None, **kwargs: Any
    ) -> Any:
        """Return the user, or None. Raises Busy where too many passwords are being checked.

        Forty wrong logins, holding a connection for 0.3 s each, would exhaust the pool.
        """
        if username is None or password is None:
            return None
        users = get_user_model()
        try:
            user = users._default_manager.get_by_natural_key(username)
        except users.DoesNotExist:
            user = None
        if not connection.in_atomic_block:
            connection.close()
        with _hashing_place():
            if user is None:
                # As slow as a wrong password, so that the time does not tell which names exist.
                _hashers.submit(make_password, password).result()
                return None
            right, outdated = _hashers.submit(verify_password, password, user.password).result()
            if right and outdated:  # hashed by an earlier release, with less work
                user.password = _hashers.submit(make_password, password).result()
                user.save(update_fields=["password"])
        return user if right and self.user_can_authenticate(user) else None


def _yield_to_others() -> None:
    """Let the event loop, through which every commit comes, go before the hashing threads.

    On Linux a nice value is a thread's own.
    """
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


_hashers = ThreadPoolExecutor(HASHES_AT_ONCE, "hash", initializer=_yield_to_others)
_hashing_places = threading.BoundedSemaphore(HASHES_AT_ONCE)


@contextmanager
def _hashing_place() -> Iterator[None]:
    """Hold one of HASHES_AT_ONCE places. Raise Busy if none becomes free in time."""
    if not _hashing_places.acquire(timeout=HASH_WAIT_S):
        raise Busy(503, gettext_noop("Too many passwords are being checked"), retry_after_s=2)
    try:
        yield
    finally:
        _hashing_places.release()


class BusyMiddleware:
    """Answers requests that were refused for lack of capacity."""

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = self._get_response(request)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return a response of 429 or 503 for Busy, None for any other error."""
        return busy_response(request, error) if isinstance(error, Busy) else None
