"""Bring the virtual environment up to one group of packages, then become its Python.

    python bin/environment.py GROUP -m some.module arguments…

The groups are `node`, `control-plane`, `dev` and `bench`; uv.lock pins them all. Installs only when
the pins changed since the last time. Uses nothing but the standard library.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"

#: The groups that contain a group: one of them is as good as the group itself.
CONTAINED_IN = {
    "node": ("control-plane", "dev", "bench"),
    "control-plane": ("dev", "bench"),
    "dev": ("bench",),
    "bench": (),
}
#: Exported from uv.lock and committed, so that pip alone can install them as well.
EXPORTED = {"node": "requirements-node.txt", "control-plane": "requirements.txt"}
#: Exported when they are installed.
GROUPS = {"dev": ("dev",), "bench": ("dev", "bench")}


def main(arguments: list[str]) -> None:
    """Install what is missing, then replace this process by the environment's Python."""
    name, rest = arguments[0], arguments[1:]
    if not _is_current(name):
        # Two commands at once would write into each other's files.
        with open(CHECKOUT / ".venv.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_current(name):
                _install_group(name)
    os.execv(PYTHON, [str(PYTHON), *rest])


def _is_current(name: str) -> bool:
    """Return whether this group, or one that contains it, is installed with its present pins."""
    if not os.access(PYTHON, os.X_OK):
        return False
    return any(
        _marker(each).exists() and _marker(each).read_text() == _fingerprint(each)
        for each in (name, *CONTAINED_IN[name])
    )


def _install_group(name: str) -> None:
    """Install a group with uv, or with pip alone if that fails; note the pins that it has now."""
    if not _venv_runs():
        _make_venv()
    print(f"Installing the packages of {name} …", file=sys.stderr, flush=True)
    file = CHECKOUT / EXPORTED.get(name, "uv.lock")
    is_installed = _install_uv(name) and _install_with_uv(name)
    if not is_installed and name in EXPORTED:
        is_installed = _run(_pip("--require-hashes", "-r", str(file)))
    if not is_installed:
        _refuse(
            f"The packages of {file.name} could not be installed (the lines above say why): "
            "check the network or the package index, then start again."
        )
    _marker(name).write_text(_fingerprint(name))


def _install_with_uv(name: str) -> bool:
    """Install a group with uv, from this machine's package index. Return whether that succeeded."""
    if name in EXPORTED:
        return _run(_uv("pip", "install", "--require-hashes", "-r", str(CHECKOUT / EXPORTED[name])))
    file = str(VENV / f"{name}.txt")
    groups = [f"--group={group}" for group in GROUPS[name]]
    export = ["export", "--frozen", "--no-emit-project", *groups, "--output-file", file]
    return _run(_uv(*export), quiet=True) and _run(
        _uv("pip", "install", "--require-hashes", "-r", file)
    )


def _venv_runs() -> bool:
    """Return whether the environment's Python runs; after a move or an upgrade it may not."""
    # Outside of a virtual environment both prefixes are the same, and the exit code is 1.
    return _run([str(PYTHON), "-c", "import sys; sys.exit(sys.prefix == sys.base_prefix)"])


def _make_venv() -> None:
    # Not the Python of a virtual environment, which may be the one to be replaced, but its base.
    base = getattr(sys, "_base_executable", sys.executable)
    has_modules = all(importlib.util.find_spec(part) for part in ("venv", "ensurepip"))
    if not has_modules or not _run([base, "-m", "venv", "--clear", str(VENV)]):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        _refuse(
            f"This Python {version} cannot make virtual environments: on Debian or Ubuntu run "
            f"apt-get install python{version}-venv, then start again."
        )


def _install_uv(name: str) -> bool:
    """Put uv into the environment. Return False if that fails."""
    file = CHECKOUT / "bin" / "uv.txt"
    # A group of EXPORTED is then installed by pip, whose lines say why that fails.
    return _run(_pip("--require-hashes", "-r", str(file)), quiet=name in EXPORTED)


def _pip(*arguments: str) -> list[str]:
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    return [str(PYTHON), "-m", "pip", "install", *options, *arguments]


def _uv(*arguments: str) -> list[str]:
    # The system's certificates, as pip uses them, are the right ones behind a proxy.
    uv = str(VENV / "bin" / "uv")
    return [uv, "--quiet", "--system-certs", *arguments, "--python", str(PYTHON)]


def _run(argv: list[str], quiet: bool = False) -> bool:
    """Return whether a command succeeded; False as well if its program is missing."""
    output = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(argv, cwd=CHECKOUT, stdout=output, stderr=output).returncode == 0
    except OSError:
        return False


def _marker(name: str) -> Path:
    """Return the path of the file that holds the fingerprint of a group's installed pins."""
    return VENV / f".installed-{name}"


def _fingerprint(name: str) -> str:
    """Return the hash of the file that pins a group's packages in this checkout."""
    pins = CHECKOUT / EXPORTED.get(name, "uv.lock")
    return hashlib.sha256(pins.read_bytes()).hexdigest()


def _refuse(sentence: str) -> NoReturn:
    sys.exit(f"ginkgo: {sentence}")


if __name__ == "__main__":
    main(sys.argv[1:])
