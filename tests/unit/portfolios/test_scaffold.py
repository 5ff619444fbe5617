"""The package of a new strategy: what is written, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from portfolios.scaffold.scaffold import CannotScaffold, read_name, write_package


def test_package_and_class_names_follow_from_the_strategy_name() -> None:
    names = read_name("mean-gap-2")
    made = (names.strategy, names.package, names.type_name)
    assert made == ("mean_gap_2", "mean_gap_2", "MeanGap2")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Mean", "'Mean' cannot name a strategy: use small letters and digits"),
        ("a--b", "'a--b' cannot name a strategy"),
        ("../x", "'../x' cannot name a strategy"),
        ("x" * 41, "40 characters at most"),
        ("class", "Python or a package of this installation uses the name class"),
        ("json", "uses the name json. Choose another, such as json-strategy."),
        ("portfolios", "uses the name portfolios"),
        ("sma-cross", "sma_cross is the name of a built-in strategy"),
    ],
)
def test_unusable_strategy_name_is_refused_with_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(CannotScaffold) as refused:
        read_name(name)
    assert sentence in str(refused.value)


def test_entry_point_of_the_new_package_names_its_strategy_class(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "package"
    write_package(read_name("mean-gap"), folder)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["ginkgo.strategies"] == {
        "mean_gap": "mean_gap.strategy:MeanGap"
    }
    assert "class MeanGap(Strategy)" in (folder / "src/mean_gap/strategy.py").read_text()
    assert "$" not in (folder / "tests/test_strategy.py").read_text()


def test_scaffold_never_overwrites_an_existing_file(tmp_path: Path) -> None:
    names = read_name("mean-gap")
    write_package(names, tmp_path)  # an empty folder is as good as none
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(CannotScaffold, match="exists and is not an empty folder"):
        write_package(names, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(CannotScaffold, match="exists and is not an empty folder"):
        write_package(names, tmp_path / "README.md")


def test_folder_that_cannot_be_made_is_reported_in_a_sentence() -> None:
    with pytest.raises(CannotScaffold, match="cannot be written"):
        write_package(read_name("mean-gap"), Path("/proc/none"))
