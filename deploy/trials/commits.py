"""The longest pauses between two commits of a portfolio, as the trials print them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from machine import say

#: The time of the newest commit of each portfolio that should run.
_NEWEST = """
SELECT p.name, extract(epoch FROM r.last_commit_at)::float FROM portfolios_portfolio p
LEFT JOIN scheduling_run r ON p.id = r.portfolio_id
WHERE p.desired_state = 'running' AND p.archived_at IS NULL
"""
#: Makes the database note each pause between two commits, which are normally 0.25 s apart. A script
#: that reads the times of commits would miss some on a busy machine.
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
#: The longest pause of each portfolio that ended after a time, and when it began, in seconds.
_LONGEST = """
SELECT max(extract(epoch FROM t.ended - t.began))::float, p.name,
       (array_agg(extract(epoch FROM t.began)::float ORDER BY t.ended - t.began DESC))[1]
FROM public.trial_pause t JOIN portfolios_portfolio p ON p.id = t.portfolio
WHERE t.ended > to_timestamp(%s) GROUP BY p.name ORDER BY 1 DESC
"""


class Commits:
    """Newest commits of the portfolios that should run, and the longest pauses between commits."""

    def __init__(self, database_url: str) -> None:
        """Make the database note pauses. Its user has to own the product's tables."""
        import psycopg  # a Python that only starts a trial may be without it

        self.newest: dict[str, float] = {}
        self._database = psycopg.connect(database_url, autocommit=True)
        self._database.execute(_NOTE_PAUSES)

    def wait_until_all_commit(self, limit_s: float) -> None:
        """Wait until each portfolio that should run has committed within the last second. Raise
        AssertionError after `limit_s`."""
        began = time.monotonic()
        while True:
            self.newest = {name: at or 0.0 for name, at in self._database.execute(_NEWEST)}
            if min(self.newest.values(), default=0) > time.time() - 1:
                return
            if time.monotonic() - began > limit_s:
                ages = {name: time.time() - at for name, at in self.newest.items()}
                late = ", ".join(f"{name}: {age:.1f} s" for name, age in ages.items() if age > 1)
                found = f"newest commits over 1 s old: {late}" if late else "no portfolio to run"
                raise AssertionError(f"after {limit_s:g} s, {found}")
            time.sleep(0.1)

    @contextlib.contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Print the longest pauses between commits during the block, and when in it each began."""
        began = time.time()
        yield
        longest = self._database.execute(_LONGEST, [began]).fetchall()
        named = [
            f"{pause:.2f} s ({name}, at {at - began:.1f} s)" for pause, name, at in longest[:3]
        ]
        late = sum(pause > 1 for pause, *_ in longest)
        say(f"{what}: longest pauses {', '.join(named) or 'below 0.26 s'}, over 1 s: {late}")
