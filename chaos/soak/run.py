"""The run of a soak: the installation of chaos, a fault now and then, a sample all the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chaos.runner.fault_context import Interrupted
from chaos.runner.run import Run
from chaos.runner.topology import Topology
from chaos.soak.compression import Compression
from chaos.soak.samples import Sampler
from ginkgo_site.env import embedded_url

#: What happens to an installation in a week, rather than everything that may.
FAULTS = (
    "kill-daemon",
    "kill-child",
    "freeze-daemon-short",
    "terminate-daemon",
    "kill-web",
    "kill-watcher",
    "kill-worker",
    "restart-database",
    "silence-short",
    "drain",
    "migrations",
    "reloads",
    "patches",
    "stop-and-start",
)
FAULTS_A_DAY = 2
SAMPLES = 400  #: in a run, at least 2 s apart
SHORTEST_SAMPLE_S = 2.0


class Soak(Run):
    """Does what is scheduled spread over the time, and samples."""

    def __init__(
        self,
        home: Path,
        compression: Compression,
        *,
        seed: int,
        rate: float,
        faults: Sequence[str],
        samples: Path,
        say: Callable[[Run, str], None],
    ) -> None:
        """`rate` is the feed's, in events per real second; `samples` is a file."""
        times = compression.times()
        super().__init__(
            home, times, seed=seed, minutes=compression.minutes, faults=faults, say=say
        )
        self.compression = compression
        self.grounds = Topology(home, times, rate)
        every_s = max(compression.minutes * 60 / SAMPLES, SHORTEST_SAMPLE_S)
        self.sampler = Sampler(self.grounds, lambda: embedded_url(home), samples, every_s)

    def _do_everything(self) -> bool:
        """Do a step every half of a compressed day, until the time is over."""
        self.sampler.start(self._began_s)
        try:
            end_s = self.minutes * 60
            apart_s = end_s / max(self.compression.days * FAULTS_A_DAY, 1)
            for number, step in enumerate(self.outcome.schedule):
                self._wait_until(min((number + 0.5) * apart_s, end_s))
                if self.elapsed_s >= end_s - apart_s / 4:
                    break
                self._do(step)
                assert self._watch is not None
                self._take_from(self._watch)
            self._wait_until(end_s)
        finally:
            self.sampler.stop()
        self.outcome.ended_why = "the time was over"
        return True

    def _wait_until(self, at_s: float) -> None:
        while self.elapsed_s < at_s:
            self._say(self, f"day {self.compression.day_at(self.elapsed_s):.1f}")
            if self.stopping.wait(min(max(at_s - self.elapsed_s, 0.05), 5.0)):
                raise Interrupted
        time.sleep(0)
