"""Unpacking of wheels: what is refused, and in which words."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from portfolios.artifacts import unpack
from tests.support import wheels
from tests.support.patches import raising


def unpack_wheel(tmp_path: Path, data: bytes) -> str:
    return unpack.unpack(wheels.write(tmp_path, data), tmp_path / "code")


def test_unpacked_files_are_compiled_and_read_only(tmp_path: Path) -> None:
    unpack_wheel(tmp_path, wheels.counter("x").data())
    package = tmp_path / "code" / "counting"
    assert [path.suffix for path in (package / "__pycache__").iterdir()] == [".pyc"]
    for path in (package, package / "__init__.py"):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)


def test_digest_of_unpacked_code_is_equal_for_equal_wheels_and_changes_with_a_file(
    tmp_path: Path,
) -> None:
    first = unpack_wheel(tmp_path, wheels.counter("x").data())
    folder = tmp_path / "code"
    assert unpack.digest(folder) == first
    changed = folder / "counting" / "__init__.py"
    changed.chmod(0o644)
    changed.write_text(changed.read_text() + "#")
    assert unpack.digest(folder) != first


@pytest.mark.parametrize(
    ("wheel", "error", "sentence"),
    [
        (wheels.counter("x", tag="cp27-cp27m-win32"), unpack.NeedsOtherPython,
         "is built for cp27-cp27m-win32, which Python 3"),
        (wheels.counter("x", requires_python=">=4"), unpack.NeedsOtherPython,
         "needs Python >=4, this is Python 3"),
        (wheels.counter("x", requires_python="three"), unpack.WheelUnusable,
         "has an invalid Requires-Python: 'three'"),
        (wheels.Wheel({"../out.py": ""}), unpack.WheelUnusable,
         "has a link, or a path that may lead out of the wheel: '../out.py'"),
        (wheels.Wheel({"/etc/out.py": ""}), unpack.WheelUnusable,
         "has a link, or a path that may lead out of the wheel: '/etc/out.py'"),
        (wheels.Wheel({"a//b.py": "", "a/b.py": ""}), unpack.WheelUnusable,
         "has the file 'a/b.py' twice"),
        (wheels.Wheel({f"{'ä' * 128}.py": ""}), unpack.WheelUnusable,
         "has a file with a name of over 255 bytes: "),
    ],
)  # fmt: skip
def test_unusable_wheel_is_refused(
    tmp_path: Path, wheel: wheels.Wheel, error: type[unpack.WheelUnusable], sentence: str
) -> None:
    with pytest.raises(error) as refused:
        unpack_wheel(tmp_path, wheel.data())
    assert str(refused.value).startswith(sentence)
    assert type(refused.value) is error


def test_unpacking_code_that_python_warns_about_emits_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    unpack_wheel(tmp_path, wheels.Wheel({"odd.py": "print(1 is 1)\n"}).data())
    assert not recwarn.list


def test_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    data = io.BytesIO(wheels.counter("x").data())
    with zipfile.ZipFile(data, "a") as archive:
        link = zipfile.ZipInfo("counting/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(unpack.WheelUnusable, match="counting/link"):
        unpack_wheel(tmp_path, data.getvalue())


@pytest.mark.parametrize("data", [b"", b"not a zip", wheels.counter("x").data()[:200]])
def test_file_that_is_not_a_wheel_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(unpack.WheelUnusable, match="is not a valid wheel"):
        unpack_wheel(tmp_path, data)


def test_wheel_with_a_file_that_ends_too_early_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile.ZipExtFile, "read", raising(EOFError))
    cut = wheels.counter("x").data()
    with pytest.raises(unpack.WheelUnusable, match=r"^is not a valid wheel: it ends too early$"):
        unpack_wheel(tmp_path, cut)


def test_wheel_is_refused_by_its_real_unpacked_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "MAX_BYTES", 1 << 20)
    bomb = wheels.Wheel({"big.py": "#" * (2 << 20)})
    with pytest.raises(unpack.WheelUnusable, match="takes more than 1 MB when unpacked"):
        unpack_wheel(tmp_path, bomb.data())


def test_unpack_program_prints_the_digest_or_why_not_and_exits_accordingly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)  # of this process
    wheel = wheels.write(tmp_path, wheels.counter("x", requires_python=">=4").data())
    assert unpack.main([str(wheel), str(tmp_path / "code")]) == unpack.OTHER_PYTHON
    assert capsys.readouterr().out.startswith("needs Python >=4")
    good = wheels.write(tmp_path, wheels.counter("x").data())
    assert unpack.main([str(good), str(tmp_path / "code")]) == 0
    assert capsys.readouterr().out.strip() == unpack.digest(tmp_path / "code")
    assert unpack.main([str(good), str(tmp_path / "absent" / "code")]) == unpack.DISK
    both = wheels.write(tmp_path, wheels.Wheel({"a": "", "a/b/c.py": ""}).data())
    assert unpack.main([str(both), str(tmp_path / "both")]) == unpack.UNUSABLE
    assert capsys.readouterr().out.endswith("twice, or as a file and as a folder\n")
