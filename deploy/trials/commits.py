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
#: The database notes each pause: a reader that is late on a busy machine would miss commits.
_NOTE_PAUSES = """
CREATE TABLE public.trial_pause (portfolio bigint, began timestamptz, ended timestamptz);
CREATE FUNCTION public.trial_pause() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO public.trial_pause
    VALUES (NEW.portfolio_id, OLD.last_commit_at, NEW.last_commit_at);
    RETURN NULL;
END $$;
CREATE TRIGGER trial_pause AFTER UPDATE OF last_commit_at ON scheduling_run FOR EACH ROW
WHEN (NEW.last_commit_at > OLD.last_commit_at + interval '0.26 s')
EXECUTE FUNCTION public.trial_pause();
"""
_LONGEST = """
SELECT max(extract(epoch FROM t.ended - t.began))::float, p.name,
       (array_agg(extract(epoch FROM t.began)::float ORDER BY t.ended - t.began DESC))[1]
FROM public.trial_pause t JOIN portfolios_portfolio p ON p.id = t.portfolio
WHERE t.ended > to_timestamp(%s) GROUP BY p.name ORDER BY 1 DESC
"""


class Commits:
    """Reads the newest commit of each portfolio 20 times a second; the database notes pauses."""

    def __init__(self, database_url: str) -> None:
        """Begin. The user has to own the tables."""
        self.newest: dict[str, float] = {}
        self._url = database_url
        self._all = False
        import psycopg  # a Python that only starts a trial may be without it

        with psycopg.connect(database_url) as connection:
            connection.execute(_NOTE_PAUSES)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        import psycopg

        # The end of the trial stops the server, and with it this thread.
        with (
            contextlib.suppress(psycopg.errors.AdminShutdown),
            psycopg.connect(self._url, autocommit=True) as connection,
        ):
            while True:
                rows = connection.execute(_NEWEST).fetchall()
                self._all = all(at for _, at in rows)
                self.newest = {name: at for name, at in rows if at is not None}
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
        """Print the longest pauses of the block, each with the second of the block it began in."""
        import psycopg

        began = time.time()
        yield
        with psycopg.connect(self._url) as connection:
            longest = connection.execute(_LONGEST, [began]).fetchall()
        named = [
            f"{pause:.2f} s ({name}, at {at - began:.1f} s)" for pause, name, at in longest[:3]
        ]
        late = sum(pause > 1 for pause, *_ in longest)
        say(f"{what}: longest pauses {', '.join(named) or 'below 0.26 s'}, over 1 s: {late}")
