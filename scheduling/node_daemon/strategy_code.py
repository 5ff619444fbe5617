"""What a portfolio process is started from: the artifact of its strategy, and a forkserver.

Both are obtained in *prepare*, or before a start that has no *prepare*; never between the release
of a portfolio and its first commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from portfolios.artifacts.load import short
from portfolios.runtime.spec import Spec
from scheduling.node_daemon.artifact_cache import ArtifactCache
from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.control_plane_client import ControlPlaneClient, patiently
from scheduling.node_daemon.environments import Environments, entry_name
from scheduling.node_daemon.errors import CodeUnavailable, RequestRefused
from scheduling.node_daemon.forkserver_client import Artifact, ForkserverClient, PackageEnvironment
from scheduling.node_daemon.logs import LOG

IDLE_FORKSERVER_S = 600.0  #: a forkserver without processes ends after this time
CLEAN_UP_INTERVAL_S = 60.0
FIRST_BACK_OFF_S, MAX_BACK_OFF_S = 0.2, 2.0

T = TypeVar("T")


class StrategyCode:
    """The artifacts, environments and forkservers of one daemon."""

    def __init__(
        self,
        folder: Path,
        client: ControlPlaneClient,
        forkserver: ForkserverClient,
        start_forkserver: Callable[[PackageEnvironment], ForkserverClient],
    ) -> None:
        """Use `folder`, which this node alone writes.

        `forkserver` has the node's own packages, for strategies without an artifact.
        """
        self._artifacts = ArtifactCache(folder / "artifacts", client.artifact)
        self._environments = Environments(
            folder / "environments", folder / "artifacts", client.environment_lock
        )
        self._own = forkserver
        self._start_forkserver = start_forkserver
        #: sha256 of an environment → its forkserver, and the task that listens to it.
        self._forkservers: dict[str, tuple[ForkserverClient, asyncio.Task[None]]] = {}
        self._wanted: set[str] = set()  #: names of cache entries that must not be evicted

    def keep(self, specs: Iterable[dict[str, object]]) -> None:
        """From now on, evict only artifacts and environments that none of these specs names."""
        self._wanted = set()
        for spec in specs:
            self._wanted.add(str(spec.get("artifact", "")))
            self._wanted.add(entry_name(str(spec.get("environment", ""))))

    async def obtain(self, spec: Spec) -> tuple[ForkserverClient, Artifact | None]:
        """Return the forkserver for the process of a spec, and its artifact (None: built in).

        Wait while the gateway is away. Raise ChildFailed with a sentence if either is unavailable.
        """
        if not spec.artifact:
            return self._own, None
        folder, environment = await asyncio.gather(
            _obtained(
                f"artifact {short(spec.artifact)}", lambda: self._artifacts.code_of(spec.artifact)
            ),
            self._environment(spec.environment),
        )
        forkserver = self._own if environment is None else self._forkserver(environment)
        return forkserver, Artifact(spec.artifact, folder)

    async def _environment(self, sha256: str) -> PackageEnvironment | None:
        if not sha256:
            return None
        return await _obtained(
            f"the lock of environment {short(sha256)}",
            lambda: self._environments.environment(sha256),
        )

    def _forkserver(self, environment: PackageEnvironment) -> ForkserverClient:
        """Return the forkserver of an environment; start it if it does not run."""
        if environment.sha256 not in self._forkservers:
            new = self._start_forkserver(environment)
            new.launch()
            listening = asyncio.create_task(new.listen(), name=str(new))
            self._forkservers[environment.sha256] = new, listening
        client, _ = self._forkservers[environment.sha256]
        client.used_at_s = boottime_s()
        return client

    async def clean_up(self) -> None:
        """End idle forkservers and evict unused artifacts and environments, until cancelled."""
        while True:
            await asyncio.sleep(CLEAN_UP_INTERVAL_S)
            self.end_idle_forkservers(boottime_s())
            for cache in (self._artifacts.folder, self._environments.folder):
                keep = {*self._wanted, *map(entry_name, self._forkservers)}
                try:
                    removed = await asyncio.to_thread(cache.evict, keep)
                except OSError as error:  # an entry was replaced meanwhile, or the disk fails
                    LOG.warning("%s cannot be cleaned up: %s", cache.path, error)
                    continue
                for name in removed:
                    LOG.info("%s was removed from %s: unused", name, cache.path)

    def end_idle_forkservers(self, now_s: float) -> None:
        """End each forkserver of an environment that had no process for IDLE_FORKSERVER_S."""
        for sha256, (client, listening) in list(self._forkservers.items()):
            if client.is_idle and now_s - client.used_at_s > IDLE_FORKSERVER_S:
                LOG.info("%s ends: nothing uses it", client)
                del self._forkservers[sha256]
                listening.cancel()
                client.close()

    def close(self) -> None:
        """End the forkservers of all environments, with their processes."""
        for client, listening in self._forkservers.values():
            listening.cancel()
            client.close()
        self._forkservers.clear()


async def _obtained(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `attempt`, repeated while the gateway is away. Raise CodeUnavailable."""
    try:
        return await patiently(what, attempt, FIRST_BACK_OFF_S, MAX_BACK_OFF_S)
    except RequestRefused as refused:
        raise CodeUnavailable(
            f"{what} is not available: the gateway answered {refused.status}: {refused}"
        ) from None
