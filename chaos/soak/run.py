"""The run of a soak: a chaos run with few faults, spread over the time, and a resource sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from chaos.runner.fault_context import Interrupted
from chaos.runner.run import ChaosRun
from chaos.soak.compression import Compression
from chaos.soak.samples import Sampler
from ginkgo_site.env import embedded_url

#: Faults and operations of an ordinary week.
FAULTS = (
    *("kill-daemon", "kill-child", "freeze-daemon-short", "terminate-daemon"),
    *("kill-web", "kill-watcher", "kill-worker", "restart-database", "silence-short"),
    *("drain", "migrations", "reloads", "patches", "stop-and-start"),
)
FAULTS_A_DAY = 2
SAMPLES = 400  #: samples in a run, at least 2 s apart
SHORTEST_SAMPLE_S = 2.0


class Soak(ChaosRun):
    """A chaos run whose steps are spread over the time, with a sampler."""

    def __init__(
        self,
        home: Path,
        compression: Compression,
        *,
        seed: int,
        rate: float,
        faults: Sequence[str],
        samples: Path,
        on_progress: Callable[[ChaosRun, str], None],
    ) -> None:
        """`rate` is the feed's, in events per real second; `samples` is the file of samples."""
        super().__init__(
            home,
            compression.times(),
            seed=seed,
            minutes=compression.minutes,
            faults=faults,
            feed_rate=rate,
            on_progress=on_progress,
        )
        self.compression = compression
        every_s = max(compression.minutes * 60 / SAMPLES, SHORTEST_SAMPLE_S)
        self.sampler = Sampler(self.topology, lambda: embedded_url(home), samples, every_s)

    def _run_schedule(self) -> bool:
        """Run the steps, FAULTS_A_DAY in a compressed day. Return True: the time was over."""
        self.sampler.start(self._began_s)
        try:
            end_s = self.minutes * 60
            apart_s = end_s / max(self.compression.days * FAULTS_A_DAY, 1)
            for number, step in enumerate(self.outcome.schedule):
                self._wait_until(min((number + 0.5) * apart_s, end_s))
                if self.elapsed_s >= end_s - apart_s / 4:
                    break  # too late for a step and its convergence
                self._run_step(step)
                self._copy_monitor_results()
            self._wait_until(end_s)
        finally:
            self.sampler.stop()
        self.outcome.ended_why = "the time was over"
        return True

    def _wait_until(self, at_s: float) -> None:
        """Wait until `elapsed_s` is `at_s`. Raise Interrupted if the run was asked to stop."""
        while self.elapsed_s < at_s:
            self._on_progress(self, f"day {self.compression.day_at(self.elapsed_s):.1f}")
            if self.stopping.wait(min(max(at_s - self.elapsed_s, 0.05), 5.0)):
                raise Interrupted
