"""Write the files of a new strategy's package from the templates in `files/`."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template

from portfolios.strategies import registry
from portfolios.text import quoted

TEMPLATES = Path(__file__).parent / "files"
NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
MAX_NAME = 40  #: characters

#: Template → path in the package.
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
    "init.py.txt": "src/{package}/__init__.py",
    "strategy.py.txt": "src/{package}/strategy.py",
    "test_strategy.py.txt": "tests/test_strategy.py",
}


class CannotScaffold(Exception):
    """The package cannot be written. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names for `mean-gap`: strategy and package are `mean_gap`, the class is `MeanGap`."""

    strategy: str
    package: str
    type_name: str


def read_name(name: str) -> Names:
    """Return the names that follow from a strategy's name. Raise CannotScaffold."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise CannotScaffold(
            f"{quoted(name)} cannot name a strategy: use small letters and digits, with single"
            f" hyphens or underscores inside, {MAX_NAME} characters at most, such as mean-gap."
        )
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or _is_importable(package):
        raise CannotScaffold(
            f"{name} cannot name a strategy: Python or a package of this installation uses the name"
            f" {package}. Choose another, such as {name}-strategy."
        )
    if package in registry.BUILT_IN:
        raise CannotScaffold(f"{package} is the name of a built-in strategy: choose another.")
    type_name = "".join(map(str.capitalize, package.split("_")))
    return Names(strategy=package, package=package, type_name=type_name)


def write_package(names: Names, folder: Path) -> list[Path]:
    """Write the package into `folder`, which must be missing or empty, and return its files.

    Raise CannotScaffold if it has files, or if the disk fails. Nothing is overwritten.
    """
    values = {
        "name": names.strategy,
        "distribution": names.package.replace("_", "-"),
        "package": names.package,
        "type_name": names.type_name,
    }
    texts = {
        folder / path.format(package=names.package): _fill_in(template, values)
        for template, path in FILES.items()
    }
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CannotScaffold(
                f"{folder} exists and is not an empty folder: nothing was written. Name another"
                " with --directory."
            )
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:  # never overwrites, even in a race
                file.write(text)
    except OSError as error:
        path = error.filename or folder  # a full disk names no file
        raise CannotScaffold(f"{path} cannot be written: {error.strerror}.") from None
    return list(texts)


def _fill_in(template: str, values: Mapping[str, str]) -> str:
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)


def _is_importable(package: str) -> bool:
    """Return whether a top-level module has this name. Imports nothing."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return True  # a module of this name was imported, or is broken: the name is taken
