"""The longest pauses between two commits of a portfolio, as the trials print them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from machine import say

_NEWEST = """
SELECT p.name, extract(epoch FROM r.last_commit_at)::float FROM portfolios_portfolio p
LEFT JOIN scheduling_run r ON p.id = r.portfolio_id
WHERE p.desired_state = 'running' AND p.archived_at IS NULL
"""


class Commits:
    """Reads the newest commit of each portfolio 20 times a second, and keeps the longest pauses."""

    def __init__(self, database_url: str) -> None:
        self.newest: dict[str, float] = {}
        self._url = database_url
        self._all = False
        self._longest: dict[str, float] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        import psycopg  # a Python that only starts a trial may be without it

        # The end of the trial stops the server, and with it this thread.
        with (
            contextlib.suppress(psycopg.errors.AdminShutdown),
            psycopg.connect(self._url, autocommit=True) as connection,
        ):
            while True:
                rows = connection.execute(_NEWEST).fetchall()
                self._all = all(at for _, at in rows)
                for name, at in rows:
                    if at is None:
                        continue
                    pause = at - self.newest.get(name, at)
                    self._longest[name] = max(self._longest.get(name, 0.0), pause)
                    self.newest[name] = at
                time.sleep(0.05)

    def wait_until_all_commit(self, limit_s: float) -> None:
        """Wait until each portfolio has committed within the last second."""
        began = time.monotonic()
        while not self._all or min(self.newest.values(), default=0) < time.time() - 1:
            if time.monotonic() - began > limit_s:
                raise AssertionError(
                    f"after {limit_s:g} s not every portfolio has committed within 1 s:"
                    f" {self.newest}, now {time.time()}"
                )
            time.sleep(0.1)

    @contextlib.contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Print the longest pauses of the block."""
        self._longest.clear()
        yield
        worst = sorted(((pause, name) for name, pause in self._longest.items()), reverse=True)
        late = sum(pause > 1 for pause, _ in worst)
        say(f"{what}: longest pause {worst[0][0]:.2f} s ({worst[0][1]}), over 1 s: {late}")
