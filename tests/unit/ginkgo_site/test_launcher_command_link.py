"""The command `ginkgo` in the user's ~/.local/bin."""

from __future__ import annotations

from pathlib import Path

import pytest

from ginkgo_site.launcher.command_link import link_command
from tests.support.patches import raising


@pytest.fixture
def command(tmp_path: Path) -> Path:
    command = tmp_path / "checkout" / "bin" / "ginkgo"
    command.parent.mkdir(parents=True)
    command.touch()
    return command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / ".local" / "bin"
    folder.mkdir(parents=True)
    return folder


def test_command_is_linked_and_named_without_its_path(
    command: Path, folder: Path, tmp_path: Path
) -> None:
    assert link_command(command, tmp_path, ["", "/nowhere", str(folder)]) == "ginkgo"
    assert (folder / "ginkgo").readlink() == command
    assert [path.name for path in folder.iterdir()] == ["ginkgo"]


def test_link_to_another_checkout_is_replaced(command: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other checkout"
    (other / "ginkgo_cli").mkdir(parents=True)
    (other / "ginkgo_cli" / "__main__.py").touch()
    (folder / "ginkgo").symlink_to(other / "bin" / "ginkgo")
    assert link_command(command, tmp_path, [str(folder)]) == "ginkgo"
    assert (folder / "ginkgo").readlink() == command


@pytest.mark.parametrize("path", [["/usr/bin"], []])
def test_launcher_names_the_whole_path_if_the_link_folder_is_not_on_path(
    command: Path, tmp_path: Path, path: list[str]
) -> None:
    assert link_command(command, tmp_path, path) == str(command)
    assert not (tmp_path / ".local").exists()


def test_launcher_names_the_whole_path_if_another_command_comes_first_on_path(
    command: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "ginkgo").touch()
    assert link_command(command, tmp_path, [str(other), str(folder)]) == str(command)


@pytest.mark.parametrize("is_link", [False, True])
def test_link_does_not_replace_another_program_of_that_name(
    command: Path, folder: Path, tmp_path: Path, is_link: bool
) -> None:
    theirs = tmp_path / "go" / "bin" / "ginkgo" if is_link else folder / "ginkgo"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("theirs")
    if is_link:
        (folder / "ginkgo").symlink_to(theirs)
    assert link_command(command, tmp_path, [str(folder)]) == str(command)
    assert (folder / "ginkgo").read_text() == "theirs"


def test_launcher_names_the_whole_path_if_the_link_folder_cannot_be_written(
    command: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "symlink_to", raising(PermissionError("not yours")))
    assert link_command(command, tmp_path, [str(folder)]) == str(command)
