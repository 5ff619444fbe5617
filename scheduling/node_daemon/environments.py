"""Virtual environments with the dependencies of artifacts, one for each lock.

    environments/SHA256-cpython-311/venv       the environment
    environments/SHA256-cpython-311/lock.txt   the requirements with their hashes, as they arrived

uv installs exactly what the lock pins, wheels only, since building a package would run code from
outside with the rights of the daemon. For the same reason the Python of an environment does not run
before its packages are in place, and code of theirs that Python would run at its start is removed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from portfolios.artifacts.load import short
from portfolios.text import quoted
from scheduling.node_daemon.artifact_cache import disk_error
from scheduling.node_daemon.bounded_folder import BoundedFolder, remove_tree, size_of
from scheduling.node_daemon.config import TOKEN_VARIABLE
from scheduling.node_daemon.errors import CodeUnavailable
from scheduling.node_daemon.forkserver_client import PackageEnvironment
from scheduling.node_daemon.logs import LOG
from scheduling.node_daemon.shared_tasks import SharedTasks
from scheduling.node_daemon.subprocesses import Ended, run_program

MAX_BYTES = 8 << 30  #: of all environments together
MAX_BUILD_BYTES = 4 << 30  #: of one build, with the downloaded packages
MEASURE_S = 0.5  #: interval at which the size of a build is measured
BUILD_LIMIT_S = 300.0
VENV, LOCK, CACHE = "venv", "lock.txt", "uv-cache"
DEFAULT_INDEX = "https://pypi.org/simple"
INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")

#: Large packages that are safe to import before a fork. A line `# preload: MODULE …` of the lock
#: names others.
PRELOADED = ("numpy", "pandas", "scipy")
STARTUP_MODULES = ("sitecustomize", "usercustomize")
#: A pinned package. A line of a lock is one without an address (`@`), a hash, or a comment.
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?\s*==", re.MULTILINE)
_REQUIREMENT = re.compile(rf"{_PIN.pattern}[^@]*|\s*--hash=\w+:\w+\s*\\?|\s*(#.*)?")
_PRELOAD = re.compile(r"^# preload:(.*)$", re.MULTILINE)
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

FetchLock = Callable[[str], Awaitable[bytes]]


class Environments:
    """The environments below one folder. Each is built once; one is built at a time."""

    def __init__(self, folder: Path, artifacts: Path, fetch: FetchLock) -> None:
        """Use `folder`, which this node alone writes."""
        self.folder = BoundedFolder(folder, MAX_BYTES)
        self._artifacts = artifacts
        self._fetch = fetch
        self._tasks: SharedTasks[PackageEnvironment] = SharedTasks(self._obtain)
        self._building = asyncio.Lock()

    async def environment(self, sha256: str) -> PackageEnvironment:
        """Return the environment of a lock; fetch and build it if it is not here.

        Raise CodeUnavailable, RequestRefused, or ServerUnavailable if the attempt may be repeated.
        """
        # A build continues when its portfolio is stopped: another one will need the environment.
        return await self._tasks.result(sha256)

    async def _obtain(self, sha256: str) -> PackageEnvironment:
        """Do the work of `environment`, once for all callers that wait for the same environment."""
        name = entry_name(sha256)
        entry = self.folder.path / name
        try:
            usable = await asyncio.to_thread(_is_usable, entry, sha256)
            if not usable or not self.folder.mark_used(name):
                lock = await self._fetch(sha256)
                if hashlib.sha256(lock).hexdigest() != sha256:
                    raise CodeUnavailable(
                        f"the lock of environment {short(sha256)} arrived with other bytes: their "
                        f"sha256 is {hashlib.sha256(lock).hexdigest()}, expected {sha256}; check "
                        "the proxy in front of the gateway"
                    )
                check_lock(sha256, lock.decode(errors="replace"))
                async with self._building:
                    await self._build(sha256, lock)
            # An environment that an earlier version built may have startup code.
            await asyncio.to_thread(_remove_startup_code, sha256, _site_packages(entry / VENV))
            text = (entry / LOCK).read_text()
        except OSError as error:
            raise disk_error(f"environment {short(sha256)}", entry, error) from None
        python = entry / VENV / "bin" / "python"
        return PackageEnvironment(sha256, python, preloaded_modules(text), self._artifacts)

    async def _build(self, sha256: str, lock: bytes) -> None:
        """Build the environment in a new folder; publish it once it is complete."""
        draft = self.folder.draft()
        LOG.info("environment %s is being built", short(sha256))
        try:
            file = draft / LOCK
            file.write_bytes(lock)
            venv = draft / VENV
            variables = _build_variables(os.environ)
            site = _site_packages(venv)
            for step in (_venv_command(venv), _install_command(file, site, draft / CACHE)):
                ended = await _run_within(draft, step, variables, sha256)
                if ended.timed_out or ended.status != 0:
                    raise _build_failure(sha256, ended, draft, variables)
            await asyncio.to_thread(_remove_startup_code, sha256, site)
            # The exit status is ignored: a package may have files that are not valid Python.
            await run_program(_compile_command(site), BUILD_LIMIT_S, variables)
            await asyncio.to_thread(remove_tree, draft / CACHE)
            await asyncio.to_thread(self.folder.publish, draft, entry_name(sha256))
        finally:
            await asyncio.to_thread(remove_tree, draft)
        LOG.info("environment %s is ready", short(sha256))


async def _run_within(
    draft: Path, step: list[str], variables: Mapping[str, str], sha256: str
) -> Ended:
    """Run one program of a build. Raise CodeUnavailable once `draft` exceeds MAX_BUILD_BYTES."""
    program = asyncio.create_task(run_program(step, BUILD_LIMIT_S, variables))
    try:
        while True:
            done, _ = await asyncio.wait([program], timeout=MEASURE_S)
            size = await asyncio.to_thread(size_of, draft)
            if size > MAX_BUILD_BYTES:
                raise CodeUnavailable(
                    f"environment {short(sha256)} takes more than {MAX_BUILD_BYTES / 2**30:g} GiB"
                    " while it is built, which is the limit: lock fewer or smaller packages"
                )
            if done:
                return program.result()
    finally:
        program.cancel()
        await asyncio.wait([program])


def entry_name(sha256: str) -> str:
    """Return the name of an environment's folder: its lock and its version of Python."""
    return f"{sha256}-{sys.implementation.cache_tag}"


def check_lock(sha256: str, lock: str) -> None:
    """Raise CodeUnavailable if a line is not part of a pinned requirement, a comment or empty.

    An installer also obeys options in such a file, for example one that names another index.
    """
    for number, line in enumerate(lock.splitlines(), start=1):
        if not _REQUIREMENT.fullmatch(line):
            raise CodeUnavailable(
                f"line {number} of the lock of environment {short(sha256)} is {quoted(line)}; "
                "expected NAME==VERSION with --hash, as `uv pip compile --generate-hashes` writes",
                code_is_invalid=True,
            )


def preloaded_modules(lock: str) -> tuple[str, ...]:
    """Return the modules to import before processes are forked: those that the lock names, or the
    PRELOADED ones that it pins. Pure."""
    named = _PRELOAD.search(lock)
    if named is not None:
        return tuple(filter(_MODULE.fullmatch, re.split(r"[\s,]+", named[1])))
    pinned = {name.lower() for name in _PIN.findall(lock)}
    return tuple(name for name in PRELOADED if name in pinned)


def _is_usable(entry: Path, sha256: str) -> bool:
    """Return whether the environment is built for this lock, with a Python that still exists."""
    try:
        lock = (entry / LOCK).read_bytes()
    except FileNotFoundError:
        return False
    python_is_there = os.access(entry / VENV / "bin" / "python", os.X_OK)
    return python_is_there and hashlib.sha256(lock).hexdigest() == sha256


def _venv_command(venv: Path) -> list[str]:
    # Relocatable, since the folder is renamed once it is complete.
    return [*_uv(), "venv", "--relocatable", "--python", sys.executable, str(venv)]


def _site_packages(venv: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(venv)}))


def _install_command(lock: Path, site: Path, cache: Path) -> list[str]:
    # A cache of its own, removed afterwards: a common one would grow without a limit.
    options = ["--require-hashes", "--no-build", "--cache-dir", str(cache)]
    # Into `site` alone: a wheel may have files for other folders, such as `pyvenv.cfg`.
    where = ["--target", str(site), "--python", sys.executable]
    return [*_uv(), "pip", "install", *options, "-r", str(lock), *where]


def _remove_startup_code(sha256: str, site: Path) -> None:
    """Remove what Python would run at its start, before the sandbox; log the names."""
    removed = []
    for path in sorted(site.iterdir()):
        if path.name.endswith(".pth") or path.name.partition(".")[0] in STARTUP_MODULES:
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink()
            removed.append(quoted(path.name))
    if removed:
        LOG.warning(
            "environment %s is without %s, which would run before the sandbox",
            short(sha256), ", ".join(removed),
        )  # fmt: skip


def _compile_command(site: Path) -> list[str]:
    # With the daemon's own Python, since that of the environment runs in the sandbox only.
    return [sys.executable, "-I", "-m", "compileall", "-q", "-j", "0", str(site)]


def _uv() -> list[str]:
    """Return the beginning of a uv command. Raise CodeUnavailable if this node has no uv."""
    beside = Path(sys.prefix, "bin", "uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise CodeUnavailable(
            f"this node has no uv to build environments with: run {sys.executable} -m pip install "
            "--require-hashes -r bin/uv.txt"
        )
    # The system's certificates: behind a proxy they are the right ones.
    return [found, "--quiet", "--system-certs", "--color", "never"]


def _build_variables(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of uv: without the node's token, and with the package index
    that is set for pip, unless one is set for uv."""
    variables = {name: value for name, value in given.items() if name != TOKEN_VARIABLE}
    if variables.get("PIP_INDEX_URL") and not any(map(variables.get, INDEX_VARIABLES)):
        variables["UV_DEFAULT_INDEX"] = variables["PIP_INDEX_URL"]
    return variables


def _build_failure(
    sha256: str, ended: Ended, draft: Path, variables: Mapping[str, str]
) -> CodeUnavailable:
    """Return the error that says why uv built no environment."""
    what = f"environment {short(sha256)}"
    index = f"packages come from {index_address(variables)}"
    if f"os error {errno.ENOSPC}" in ended.output or "No space left" in ended.output:
        return disk_error(what, draft, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if ended.timed_out:
        return CodeUnavailable(f"{what} was not built within {BUILD_LIMIT_S:g} s; {index}")
    return CodeUnavailable(f"{what} cannot be built: {ended.summary(600)}; {index}")


def index_address(variables: Mapping[str, str]) -> str:
    """Return the package index in use, without the credentials that its address may have. Pure.

    Nothing before an "@" is shown, even if the address is malformed. uv also takes NAME=URL.
    """
    given = next((variables[name] for name in INDEX_VARIABLES if variables.get(name)), "")
    scheme, mark, rest = (given or DEFAULT_INDEX).rpartition("://")
    return scheme.rpartition("=")[2] + mark + rest.rpartition("@")[2]
