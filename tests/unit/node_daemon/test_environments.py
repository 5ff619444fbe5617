"""Environments: built by uv from a lock, from wheels in a folder, without a network."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from scheduling.node_daemon import environments
from scheduling.node_daemon.environments import (
    Environments,
    _build_failure,
    check_lock,
    entry_name,
    index_address,
    preloaded_modules,
)
from scheduling.node_daemon.errors import CodeUnavailable, DiskFull
from scheduling.node_daemon.subprocesses import Ended, run_program
from tests.support import wheels


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that uv takes packages from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    return folder


def publish(index: Path, version: str, *, package: str = "weights") -> str:
    """Put a package into the index, and return its line of a lock."""
    wheel = wheels.Wheel({f"{package}.py": f"VALUE = {version!r}"}, {}, package, version)
    (index / f"{package}-{version}-py3-none-any.whl").write_bytes(wheel.data())
    return f"{package}=={version} \\\n    --hash=sha256:{wheels.sha256_of(wheel.data())}\n"


class Locks:
    """A gateway with locks."""

    def __init__(self, folder: Path) -> None:
        self.locks: dict[str, bytes] = {}
        self.requests = 0
        self.environments = Environments(folder / "environments", folder / "artifacts", self.fetch)

    def add(self, lock: str) -> str:
        """Serve a lock and return its hash."""
        self.locks[wheels.sha256_of(lock.encode())] = lock.encode()
        return wheels.sha256_of(lock.encode())

    async def fetch(self, sha256: str) -> bytes:
        self.requests += 1
        return self.locks[sha256]


def value_in(python: Path) -> str:
    program = [str(python), "-c", "import weights; print(weights.VALUE)"]
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout.strip()


async def test_environments_of_two_locks_hold_two_versions(tmp_path: Path, index: Path) -> None:
    locks = Locks(tmp_path)
    old, new = (locks.add(publish(index, version)) for version in ("1.0", "2.0"))
    made = await asyncio.gather(*(locks.environments.environment(sha) for sha in (old, new, old)))
    assert [value_in(each.python) for each in made] == ["1.0", "2.0", "1.0"]
    await Locks(tmp_path).environments.environment(old)  # the next daemon: no request, no build
    assert locks.requests == 2
    folder = tmp_path / "environments"
    assert {path.name for path in folder.iterdir()} == {entry_name(old), entry_name(new)}


async def test_package_runs_no_code_when_python_starts(tmp_path: Path, index: Path) -> None:
    runs = f"open({str(tmp_path / 'ran')!r}, 'a').write('x')"
    files = {
        "harmless.py": "VALUE = 1",
        "begins.pth": f"import sys; {runs}\n",
        "sitecustomize.py": runs,
        "usercustomize/__init__.py": runs,
        "weights-1.0.data/data/pyvenv.cfg": "home = /nowhere\n",
    }
    wheel = wheels.Wheel(files, {}, "weights", "1.0").data()
    (index / "weights-1.0-py3-none-any.whl").write_bytes(wheel)
    locks = Locks(tmp_path)
    sha256 = locks.add(f"weights==1.0 --hash=sha256:{wheels.sha256_of(wheel)}\n")
    made = await locks.environments.environment(sha256)
    program = [str(made.python), "-c", "import harmless; print(harmless.__cached__)"]
    said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert not (tmp_path / "ran").exists()
    assert Path(said.strip()).exists()  # compiled by the build, since processes write nothing


async def test_lock_with_other_bytes_is_refused(tmp_path: Path, index: Path) -> None:
    locks = Locks(tmp_path)
    locks.locks["0" * 64] = publish(index, "1.0").encode()
    with pytest.raises(CodeUnavailable, match="the lock of environment 000000000000 arrived with"):
        await locks.environments.environment("0" * 64)


async def test_failed_build_names_the_package(tmp_path: Path, index: Path) -> None:
    locks = Locks(tmp_path)
    sha256 = locks.add(f"absent-package==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(CodeUnavailable) as failed:
        await locks.environments.environment(sha256)
    sentence = str(failed.value)
    assert sentence.startswith(f"environment {sha256[:12]} cannot be built: ")
    assert "absent-package was not found" in sentence
    assert not failed.value.strategy_failed  # another node may reach the index
    assert list((tmp_path / "environments").iterdir()) == []


async def test_index_that_is_not_reached_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    locks = Locks(tmp_path)
    sha256 = locks.add(f"absent-package==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(CodeUnavailable) as failed:
        await locks.environments.environment(sha256)
    sentence = str(failed.value)
    assert sentence.endswith("; packages come from http://127.0.0.1:9/simple")
    assert "Connection refused" in sentence
    assert "simple/absent-package/" in sentence
    assert "secret" not in sentence


async def test_package_with_other_bytes_than_the_lock_is_not_installed(
    tmp_path: Path, index: Path
) -> None:
    locks = Locks(tmp_path)
    publish(index, "1.0")
    sha256 = locks.add(f"weights==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(CodeUnavailable, match="Hash mismatch for `weights"):
        await locks.environments.environment(sha256)


async def test_build_that_takes_too_long_is_ended(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "BUILD_LIMIT_S", 0.2)
    monkeypatch.setattr(environments, "_venv_command", lambda _: ["sleep", "100"])
    locks = Locks(tmp_path)
    with pytest.raises(CodeUnavailable, match=r"was not built within 0\.2 s; packages come from"):
        await locks.environments.environment(locks.add(publish(index, "1.0")))


async def test_build_that_fills_the_disk_is_ended(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that unpacks a wheel of many gigabytes, while it is unpacked."""
    monkeypatch.setattr(environments, "MAX_BUILD_BYTES", 1 << 20)
    monkeypatch.setattr(environments, "MEASURE_S", 0.05)
    writes = "import sys, time\nwith open(sys.argv[1], 'wb') as f:\n"
    writes += " while True: f.write(b'x' * 65536); f.flush(); time.sleep(0.005)"
    monkeypatch.setattr(
        environments, "_venv_command",
        lambda venv: [sys.executable, "-c", writes, str(venv.with_name("large"))],
    )  # fmt: skip
    locks = Locks(tmp_path)
    with pytest.raises(CodeUnavailable, match=r"GiB while it is built, which is the limit"):
        await locks.environments.environment(locks.add(publish(index, "1.0")))
    assert list((tmp_path / "environments").iterdir()) == []


async def test_environment_of_an_earlier_version_loses_its_startup_code(
    tmp_path: Path, index: Path
) -> None:
    locks = Locks(tmp_path)
    sha256 = locks.add(publish(index, "1.0"))
    made = await locks.environments.environment(sha256)
    site = next(made.python.parents[1].glob("lib/python*/site-packages"))
    (site / "begins.pth").write_text(f"import sys; open({str(tmp_path / 'ran')!r}, 'a')\n")
    assert value_in((await Locks(tmp_path).environments.environment(sha256)).python) == "1.0"
    assert not (tmp_path / "ran").exists()


async def test_environment_whose_python_is_gone_is_built_again(tmp_path: Path, index: Path) -> None:
    locks = Locks(tmp_path)
    sha256 = locks.add(publish(index, "1.0"))
    made = await locks.environments.environment(sha256)
    made.python.unlink()
    assert value_in((await locks.environments.environment(sha256)).python) == "1.0"


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://elsewhere.example.org",
        "-r other.txt",
        "weights @ https://elsewhere.example.org/weights-1.0-py3-none-any.whl",
        "weights==1.0 @ file:///etc",
        "weights>=1.0 --hash=sha256:00",
        "./local",
    ],
)
def test_lock_may_only_pin_packages(line: str) -> None:
    with pytest.raises(CodeUnavailable) as refused:
        check_lock("f" * 64, f"# of a tool\nweights==1.0 \\\n    --hash=sha256:00ff\n{line}\n")
    assert str(refused.value).startswith(
        f"line 4 of the lock of environment ffffffffffff is '{line}"
    )
    assert refused.value.strategy_failed


def test_lock_as_uv_writes_it_is_accepted() -> None:
    check_lock(
        "f" * 64,
        'pandas[performance]==3.1.1 ; python_full_version < "3.13" \\\n'
        "    --hash=sha256:00ff \\\n    --hash=sha256:11ee\n    # via -r requirements.in\n\n",
    )


@pytest.mark.parametrize(
    ("lock", "modules"),
    [
        ("", ()),
        ("six==1.0 \\\n", ()),
        ("six==1.0 \\\nPandas==3.1 \\\nnumpy==2.0 \\\n", ("numpy", "pandas")),
        ("# preload: sklearn.svm, numpy\nnumpy==2.0 \\\npandas==3.1\n", ("sklearn.svm", "numpy")),
        ("# preload: os;exit\nnumpy==2.0\n", ()),
    ],
)
def test_preloaded_modules_are_large_known_ones_or_those_named(
    lock: str, modules: tuple[str, ...]
) -> None:
    assert preloaded_modules(lock) == modules


@pytest.mark.parametrize("given", ["https://u:p@a.example/x", "corp=https://u:p@a.example/x",
                                   "https://u:p@/w@a.example/x"])  # fmt: skip
def test_index_address_is_shown_without_its_password(given: str) -> None:
    assert index_address({"UV_INDEX_URL": given}) == "https://a.example/x"
    assert index_address({"UV_INDEX_URL": "u:p@a.example/x"}) == "a.example/x"
    assert index_address({}) == "https://pypi.org/simple"


async def test_run_of_a_program_keeps_the_end_of_its_output() -> None:
    ended = await run_program([sys.executable, "-c", "print('x' * 9000); print('\\033end')"], 30)
    assert (ended.status, len(ended.output)) == (0, 4000 - 1)  # without the last line break
    assert ended.summary(10) == "…xx \\x1bend"
    silent = await run_program([sys.executable, "-c", "exit(7)"], 30)
    assert silent.summary() == "it ended with status 7 and printed nothing"


def test_full_disk_is_named_when_an_environment_cannot_be_built(tmp_path: Path) -> None:
    ended = Ended(2, "error: Failed to install: No space left on device (os error 28)")
    failure = _build_failure("f" * 64, ended, tmp_path / "draft", {})
    assert isinstance(failure, DiskFull)
    assert str(failure) == (
        f"environment ffffffffffff cannot be stored in {tmp_path}: the disk is full; free space "
        "there, or name another folder with GINKGO_NODE_CACHE"
    )
