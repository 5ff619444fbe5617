"""Measure the start of a portfolio process whose strategy imports numpy and pandas.

Run from the project root: `bin/bench child_start`. Builds an environment from the package index,
starts its forkserver, and forks one process after the other, as a node daemon does. Each loads a
strategy of an artifact. For comparison: the same artifact without preloaded packages, a built-in
strategy of the node's own forkserver, and a new Python process.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from portfolios.runtime.messages import Load
from portfolios.runtime.spec import Spec
from scheduling.node_daemon.artifact_cache import ArtifactCache
from scheduling.node_daemon.child import Child, start_child
from scheduling.node_daemon.environments import Environments
from scheduling.node_daemon.forkserver_client import Artifact, ForkserverClient, PackageEnvironment
from tests.support import wheels
from tests.support.market_factories import spec

RUNS = 30
TARGET_MS = 15.0
MEMORY_MB = 2048
LOAD_LIMIT_S = 60.0


async def main() -> None:
    """Measure and print one line for each way to start."""
    # Not below a folder of mode 700: started by root, portfolio processes are another user.
    with tempfile.TemporaryDirectory(prefix="ginkgo-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        environment, artifact = await _build_environment_and_artifact(folder)
        counter = spec("counter", artifact=artifact.sha256, strategy_class="counting:Counter")
        bare = replace(environment, modules=())
        print(f"{'':44} {'after the fork':>22} {'private':>9} {'shared':>9}")
        await _measure("numpy and pandas, preloaded", environment, counter, artifact)
        await _measure("numpy and pandas, not preloaded", bare, counter, artifact)
        await _measure("built-in canary, the node's packages", None, spec("canary"), None)
        _measure_new_process(environment.python)


async def _build_environment_and_artifact(folder: Path) -> tuple[PackageEnvironment, Artifact]:
    """Build an environment with pandas, and unpack an artifact that imports it."""
    lock = _make_lock(folder)
    lock_sha256 = hashlib.sha256(lock).hexdigest()
    files = {lock_sha256: lock}

    async def fetch_lock(sha256: str) -> bytes:
        return files[sha256]

    @asynccontextmanager
    async def fetch(sha256: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async def parts() -> AsyncIterator[bytes]:
            yield files[sha256]

        yield parts()

    source = "import numpy\nimport pandas\n" + wheels.COUNTER.format(mark="", name="counter")
    wheel = wheels.Wheel({"counting.py": source}, {"counter": "counting:Counter"}).data()
    sha256 = hashlib.sha256(wheel).hexdigest()
    files[sha256] = wheel
    artifacts = folder / "artifacts"
    environments = Environments(folder / "environments", artifacts, fetch_lock)
    began = time.perf_counter()
    environment = await environments.environment(lock_sha256)
    print(f"environment built in {time.perf_counter() - began:.1f} s: {environment.modules}")
    began = time.perf_counter()
    code = await ArtifactCache(artifacts, fetch).code_of(sha256)
    print(f"artifact unpacked in {time.perf_counter() - began:.2f} s")
    return environment, Artifact(sha256, code)


def _make_lock(folder: Path) -> bytes:
    """Return a lock of pandas and what it needs, resolved from the package index."""
    wanted, lock = folder / "requirements.in", folder / "lock.txt"
    wanted.write_text("pandas\n")
    uv = Path(sys.prefix, "bin", "uv")
    options = ["--quiet", "--system-certs", "--generate-hashes", "--python", sys.executable]
    subprocess.run(
        [uv, "pip", "compile", *options, "--output-file", lock, wanted], check=True, timeout=300
    )
    return lock.read_bytes()


async def _measure(
    label: str, environment: PackageEnvironment | None, portfolio: Spec, artifact: Artifact | None
) -> None:
    """Fork RUNS processes, and print the times and the memory of their starts."""
    client = ForkserverClient(MEMORY_MB, environment=environment)
    load = Load(portfolio, None, 0)
    client.launch()
    listening = asyncio.create_task(client.listen())
    times: list[float] = []
    memory: list[tuple[float, float]] = []
    try:
        await _start_one(client, load, artifact)  # waits until everything is preloaded
        for _ in range(RUNS):
            took_ms, child = await _start_one(client, load, artifact)
            times.append(took_ms)
            memory.append(_memory_mb(child.pid))
            child.kill()
    finally:
        listening.cancel()
        client.close()
    private, shared = (statistics.median(column) for column in zip(*memory, strict=True))
    median, p90 = statistics.median(times), statistics.quantiles(times, n=10)[-1]
    figures = f"{median:6.1f} ms, p90 {p90:6.1f}"
    print(f"{label:44} {figures:>22} {private:6.1f} MB {shared:6.1f} MB")


async def _start_one(
    client: ForkserverClient, load: Load, artifact: Artifact | None
) -> tuple[float, Child]:
    """Return the milliseconds from the fork to the answered load, and the process."""
    child = await start_child(client, "bench", artifact=artifact)
    began = time.perf_counter()
    await child.load(load, LOAD_LIMIT_S)
    return (time.perf_counter() - began) * 1e3, child


def _memory_mb(pid: int) -> tuple[float, float]:
    """Return the MB of a process that are its own, and those that it shares with others."""
    private = shared = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.startswith("Private_"):
            private += int(rest.split()[0])
        elif name.startswith("Shared_"):
            shared += int(rest.split()[0])
    return private / 1024, shared / 1024


def _measure_new_process(python: Path) -> None:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([python, "-c", "import numpy, pandas"], check=True, timeout=60)
        times.append((time.perf_counter() - began) * 1e3)
    print(f"{'a new Python that imports both':44} {statistics.median(times):6.1f} ms")


if __name__ == "__main__":
    asyncio.run(main())
