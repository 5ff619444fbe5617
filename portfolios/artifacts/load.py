"""Find strategies in the one artifact that this process was started for.

A process runs the code of at most one artifact, and looks a strategy up in it alone: a strategy of
the same name that is built in or installed on the machine is never taken instead. Call this only
in the sandboxed process of a strategy, since it imports code from outside.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

from portfolios.runtime.errors import ArtifactUnusable
from portfolios.runtime.spec import Spec
from portfolios.strategies import registry
from portfolios.strategies.base import Strategy
from portfolios.strategies.sources import ENTRY_POINT_GROUP

_installed: dict[str, str] = {}  #: sha256 → folder; at most one entry


def install(sha256: str, folder: str) -> None:
    """Put the unpacked artifact onto the import path: behind the standard library, before all else.

    That is the order of a development environment: there, too, an artifact's module with the
    name of a standard one is not found.
    """
    folder = os.path.realpath(folder)
    _installed.clear()
    _installed[sha256] = folder
    standard = [path for path in sys.path if is_standard_library(path)]
    others = [path for path in sys.path if path not in standard and path != folder]
    sys.path[:] = [*standard, folder, *others]


def use_environment(project: str) -> None:
    """Remove the folders of PYTHONPATH from the import path, and add Ginkgo's folder `project`.

    From now on, imports find the packages of the artifact's environment. Those that the runtime has
    imported already, such as msgspec, stay Ginkgo's own, with which it was tested.
    """
    given = {os.path.abspath(path) for path in os.environ["PYTHONPATH"].split(os.pathsep)}
    kept = [path for path in sys.path if is_standard_library(path) or path not in given]
    sys.path[:] = [*dict.fromkeys(kept), project]


def is_standard_library(path: str) -> bool:
    """Return whether an entry of the import path belongs to Python itself. Pure."""
    if os.path.basename(path) in ("site-packages", "dist-packages"):
        return False
    folder = sysconfig.get_path("stdlib")
    zipped = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    return path == folder or path.startswith(folder + os.sep) or path.endswith(os.sep + zipped)


def find_strategy(spec: Spec) -> type[Strategy]:
    """Return the class of the spec's strategy, from its artifact or from this installation.

    Raise ArtifactUnusable, or UnknownStrategy if it should be installed and is not.
    """
    if not spec.artifact:
        return registry.get(spec.strategy)
    return strategy_class(spec.artifact, spec.strategy, spec.strategy_class)


def strategy_class(sha256: str, name: str, class_path: str = "") -> type[Strategy]:
    """Return the strategy called `name` of the installed artifact. Raise ArtifactUnusable.

    `class_path` names its class, so that nothing else is imported; without it, the entry points of
    the artifact are searched.
    """
    if class_path:
        points = [EntryPoint(name, class_path, ENTRY_POINT_GROUP)]
        _folder_of(sha256)  # raises if another artifact is installed
    else:  # first the entry point of that name, which is most likely the strategy's
        points = sorted(_entry_points(sha256), key=lambda point: point.name != name)
    known: list[str] = []
    for point in points:
        found = _load(sha256, point)
        if found.name == name:
            return found
        known.append(found.name)
    raise ArtifactUnusable(
        f"artifact {short(sha256)} has no strategy {name!r}; it has: {', '.join(sorted(known))}"
    )


def strategy_classes(sha256: str) -> dict[str, type[Strategy]]:
    """Return every strategy of the installed artifact by its name. Raise ArtifactUnusable."""
    classes: dict[str, type[Strategy]] = {}
    for point in _entry_points(sha256):
        found = _load(sha256, point)
        if classes.setdefault(found.name, found) is not found:
            raise ArtifactUnusable(
                f"artifact {short(sha256)} has two strategies named {found.name!r}: rename one"
            )
    return classes


def short(sha256: str) -> str:
    """Return the first 12 digits of a hash, for sentences."""
    return sha256[:12]


def _folder_of(sha256: str) -> str:
    """Return the folder of the artifact. Raise ArtifactUnusable if it is not the installed one."""
    folder = _installed.get(sha256)
    if folder is None:
        running = ", ".join(map(short, _installed)) or "no artifact"
        raise ArtifactUnusable(
            f"artifact {short(sha256)} is not installed in this process, which has {running}: a"
            " defect to report"
        )
    return folder


def _entry_points(sha256: str) -> list[EntryPoint]:
    """Return the artifact's entry points of strategies. Raise ArtifactUnusable if it has none."""
    folder = _folder_of(sha256)
    points = [
        point
        for path in sorted(Path(folder).glob("*.dist-info"))
        for point in PathDistribution(path).entry_points
        if point.group == ENTRY_POINT_GROUP
    ]
    if not points:
        raise ArtifactUnusable(
            f"artifact {short(sha256)} has no strategy: its package declares no entry point of the "
            f"group {ENTRY_POINT_GROUP}"
        )
    return points


def _load(sha256: str, point: EntryPoint) -> type[Strategy]:
    """Return the strategy of this artifact that an entry point names. Raise ArtifactUnusable."""
    where = f"artifact {short(sha256)}: {point.value}"
    try:
        found = point.load()
    except BaseException as error:  # code from outside may raise anything
        text = " ".join(str(error).split())[:300]
        raise ArtifactUnusable(
            f"{where} cannot be imported: {type(error).__name__}: {text}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise ArtifactUnusable(f"{where} is not a subclass of portfolios.strategies.base.Strategy")
    if not isinstance(getattr(found, "name", None), str):
        raise ArtifactUnusable(f"{where} has no name: give the class a text as its `name`")
    origin = getattr(sys.modules.get(found.__module__), "__file__", None) or ""
    if not os.path.realpath(origin).startswith(_installed[sha256] + os.sep):
        raise ArtifactUnusable(
            f"{where} is not part of the artifact: {found.__module__} was imported from "
            f"{origin or 'elsewhere'}; give the package a name of its own"
        )
    return found
