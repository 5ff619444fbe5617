"""Read what a wheel says of itself, without unpacking or importing anything of it.

Its files are unpacked by `unpack`, a program of its own with limits on time and memory.
Errors name the wheel by its `label`, the name of the file.
"""

from __future__ import annotations

import email
import email.message
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from io import BytesIO
from pathlib import PurePosixPath

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    canonicalize_version,
    parse_wheel_filename,
)

from portfolios.sentences import sentence as _
from portfolios.text import escape_unprintable

MAX_WHEEL_BYTES = 20 << 20
MAX_FILE_NAME = 200  #: characters, as many as are stored
MAX_FILES = 5_000
MAX_UNPACKED_BYTES = 100 << 20  #: of all files, as the wheel states their sizes
MAX_METADATA_BYTES = 256 << 10  #: of the file METADATA
MAX_REQUIREMENTS = 500
MAX_REQUIREMENT = 1_000  #: characters; reading one takes time that grows with their square
#: Minor versions that a wheel is compared with. Ginkgo needs 3.11.
MINORS = range(11, 31)
PATCHES = range(30)  #: patch versions of each minor one, with which Requires-Python is compared
#: Packages that every node has, since Ginkgo itself needs them.
PROVIDED = ("ginkgo", "msgspec")

_MEMBER = b"PK\x01\x02"  #: begins each entry of a zip's list of files
#: What reading a damaged, encrypted or unusual zip file raises.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError),
    *(EOFError, OSError, ValueError),
)


class WheelRefused(Exception):
    """The file cannot be an artifact. `code` is stable; the text is a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class WheelFacts:
    """The metadata of a wheel."""

    name: str  #: normalised
    version: str
    summary: str
    python_tag: str
    python_requirement: str  #: such as `>=3.12`; empty: any version
    pythons: tuple[str, ...]  #: minor versions that it runs under; empty: any
    requires: tuple[Requirement, ...]  #: packages that it needs beside those that nodes have


def read_wheel(filename: str, data: bytes) -> WheelFacts:
    """Return the metadata of the wheel. Raise WheelRefused."""
    if len(data) > MAX_WHEEL_BYTES:
        raise too_large(len(data))
    file = PurePosixPath(filename.replace("\\", "/")).name[:MAX_FILE_NAME] or "the file"
    label = file if len(file) <= 120 else f"{file[:120]}…"
    try:
        name, version, __, tags = parse_wheel_filename(file)
    except InvalidWheelFilename:
        raise WheelRefused(
            "not_a_wheel",
            _(
                "{label} is not the name of a wheel: it should be like "
                "momentum-1.0-py3-none-any.whl, as `uv build --wheel` names it.",
                label=label,
            ),
        ) from None
    # Before the list of files is read: a list of 400,000 empty files takes a minute to read.
    _check_file_count(label, data.count(_MEMBER))
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            _check_members(label, archive.infolist())
            metadata = _metadata(label, archive)
    except _DAMAGED as error:
        raise WheelRefused(
            "not_a_wheel",
            _(
                "{label} is not a wheel: {error}. Build it with `uv build --wheel`.",
                label=label,
                error=escape_unprintable(str(error)),
            ),
        ) from None
    _check_name(label, name, str(version), metadata)
    requirement, pythons = _pythons(label, tags, str(metadata.get("Requires-Python") or ""))
    return WheelFacts(
        name=name,
        version=str(version),
        summary=escape_unprintable(" ".join(str(metadata.get("Summary") or "").split()))[:300],
        python_tag=min(tags, key=str).interpreter[:40],
        python_requirement=requirement,
        pythons=pythons,
        requires=tuple(_requires(label, metadata)),
    )


def too_large(size: int) -> WheelRefused:
    """Return the refusal of a wheel of `size` bytes."""
    return WheelRefused(
        "payload_too_large",
        _(
            "The wheel has {size:,} bytes; {max_wheel_bytes:,} are allowed. Keep data "
            "and models out of it, or in a package that it depends on.",
            size=size,
            max_wheel_bytes=MAX_WHEEL_BYTES,
        ),
    )


def _check_file_count(label: str, files: int) -> None:
    if files > MAX_FILES:
        raise WheelRefused(
            "payload_too_large",
            _(
                "{label} has {files:,} files; {max_files:,} are allowed.",
                label=label,
                files=files,
                max_files=MAX_FILES,
            ),
        )


def _check_members(label: str, members: list[zipfile.ZipInfo]) -> None:
    """Raise WheelRefused if files would leave their folder, fill the disk or replace each other."""
    _check_file_count(label, len(members))
    size = sum(member.file_size for member in members)
    if size > MAX_UNPACKED_BYTES:
        raise WheelRefused(
            "payload_too_large",
            _(
                "{label} has {size:,} bytes unpacked; {max_unpacked_bytes:,} are allowed.",
                label=label,
                size=size,
                max_unpacked_bytes=MAX_UNPACKED_BYTES,
            ),
        )
    seen: set[str] = set()
    for member in members:
        path = str(PurePosixPath(member.filename))
        leads_out = (
            PurePosixPath(path).is_absolute()
            or ".." in PurePosixPath(path).parts
            or "\\" in path
            or "\0" in path
            or stat.S_ISLNK(member.external_attr >> 16)
        )
        if leads_out:
            raise WheelRefused(
                "not_a_wheel",
                _(
                    "{label} has a file that may lead out of its folder: {path!r}. Links, absolute"
                    " paths, .. and backslashes are refused.",
                    label=label,
                    path=path[:80],
                ),
            )
        if path in seen:
            raise WheelRefused(
                "not_a_wheel",
                _("{label} has the file {path!r} twice.", label=label, path=path[:80]),
            )
        seen.add(path)


def _metadata(label: str, archive: zipfile.ZipFile) -> email.message.Message:
    """Return the wheel's METADATA file. Raise WheelRefused."""
    name = "METADATA"
    found = [
        member
        for member in archive.infolist()
        if re.fullmatch(rf"[^/]+\.dist-info/{name}", member.filename)
    ]
    if len(found) != 1:
        raise WheelRefused(
            "not_a_wheel",
            _(
                "{label} is not a wheel: it has {number} files *.dist-info/{name}, expected one.",
                label=label,
                number=len(found),
                name=name,
            ),
        )
    if found[0].file_size > MAX_METADATA_BYTES:
        raise WheelRefused(
            "not_a_wheel",
            _(
                "{label} has a file {name} of over {max_metadata_bytes:,} bytes, the limit.",
                label=label,
                name=name,
                max_metadata_bytes=MAX_METADATA_BYTES,
            ),
        )
    with archive.open(found[0]) as file:
        text = file.read(MAX_METADATA_BYTES + 1)  # the stated size may be wrong
    return email.message_from_string(text.decode(errors="replace"))


def _check_name(label: str, name: str, version: str, metadata: email.message.Message) -> None:
    """Raise WheelRefused if the file was renamed, or its name or version is too long."""
    stated_name = str(metadata.get("Name") or "")
    stated_version = str(metadata.get("Version") or "")
    if not (stated_name and stated_version):
        raise WheelRefused(
            "not_a_wheel", _("{label} has no Name or no Version in its METADATA.", label=label)
        )
    same_version = canonicalize_version(stated_version) == canonicalize_version(version)
    if canonicalize_name(stated_name) != name or not same_version:
        raise WheelRefused(
            "not_a_wheel",
            _(
                "{label} was renamed: its METADATA says {name} {version}. Give the file the name "
                "that the build gave it.",
                label=label,
                name=stated_name[:100],
                version=stated_version[:64],
            ),
        )
    for what, text, limit in ((_("name"), name, 100), (_("version"), version, 64)):
        if len(text) > limit:
            raise WheelRefused(
                "not_a_wheel",
                _(
                    "The {what} in {label} has {length} characters, limit {limit}: shorten it, and "
                    "build again.",
                    what=what,
                    label=label,
                    length=len(text),
                    limit=limit,
                ),
            )


def _pythons(label: str, tags: Iterable[Tag], requires: str) -> tuple[str, tuple[str, ...]]:
    """Return the allowed Python versions as text and one by one, such as (">=3.12", ("3.12", …)).

    Tags and Requires-Python decide. ("", ()) means every version. Raise WheelRefused if none is
    allowed.
    """
    tags = list(tags)
    try:
        if len(requires) > MAX_REQUIREMENT:
            raise InvalidSpecifier(requires)
        specifier = SpecifierSet(requires)
    except InvalidSpecifier:
        raise WheelRefused(
            "not_a_wheel",
            _(
                "{label} has an invalid Requires-Python: {requires!r}. Give version specifiers "
                "such as >=3.12, at most {limit:,} characters.",
                label=label,
                requires=requires[:80],
                limit=MAX_REQUIREMENT,
            ),
        ) from None
    fitting = [
        minor
        for minor in MINORS
        if any(_fits(tag, minor) for tag in tags)
        and any(specifier.contains(f"3.{minor}.{patch}") for patch in PATCHES)
    ]
    if not fitting:
        given = ", ".join(sorted(map(str, tags)))
        raise WheelRefused(
            "other_python",
            _(
                "{label} runs under no Python that Ginkgo supports (3.{minors} or newer): "
                "its tag is {given}, its Requires-Python {requires}.",
                label=label,
                minors=MINORS[0],
                given=given,
                requires=requires or _("not given"),
            ),
        )
    if len(fitting) == len(MINORS):
        return "", ()
    pythons = tuple(f"3.{minor}" for minor in fitting)
    if len(pythons) == 1:
        return pythons[0], pythons
    tag = min(tags, key=str)
    by_tag = "" if tag.interpreter == "py3" else f"{tag.interpreter}-{tag.abi}"  # py3: any
    return ", ".join(filter(None, (requires.strip(), by_tag)))[:100], pythons


def _fits(tag: Tag, minor: int) -> bool:
    """Return whether CPython 3.`minor` can run wheels of this tag, as pip decides it."""
    found = re.fullmatch(r"(py|cp)3(\d*)", tag.interpreter)
    if found is None:
        return False
    kind, digits = found.groups()
    if not digits:
        return True
    runs_under_newer = kind == "py" or tag.abi == "abi3"
    return int(digits) <= minor if runs_under_newer else int(digits) == minor


def _requires(label: str, metadata: email.message.Message) -> Iterable[Requirement]:
    """Yield the requirements that apply on this platform, except those of PROVIDED packages.

    Raise WheelRefused for too many, and for one that is invalid or names an address.
    """
    texts = [str(text) for text in metadata.get_all("Requires-Dist", [])]
    if len(texts) > MAX_REQUIREMENTS:
        raise WheelRefused(
            "not_a_wheel",
            _(
                "{label} has {number:,} dependencies (Requires-Dist); {max_requirements} are"
                " allowed.",
                label=label,
                number=len(texts),
                max_requirements=MAX_REQUIREMENTS,
            ),
        )
    for text in texts:
        try:
            requirement = parse_requirement(text)
            marker = requirement.marker
            is_needed = marker is None or marker.evaluate({"extra": ""})
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            raise WheelRefused(
                "not_a_wheel",
                _(
                    "{label} has an invalid Requires-Dist: {text!r}; declare the dependency like "
                    "numpy>=1.26, and build the wheel again.",
                    label=label,
                    text=text[:80],
                ),
            ) from None
        if not is_needed:
            continue
        if requirement.url:
            raise WheelRefused(
                "not_a_lock",
                _(
                    "{label} needs {name} from a URL. Require it by version, like numpy>=1.26:"
                    " nodes install packages from their index, by hash.",
                    label=label,
                    name=requirement.name,
                ),
            )
        if canonicalize_name(requirement.name) in PROVIDED:
            _check_provided(label, requirement)
        else:
            yield requirement


def parse_requirement(text: str) -> Requirement:
    """Return `text` as a requirement. Raise InvalidRequirement if it is not one, or is too long."""
    if len(text) > MAX_REQUIREMENT:
        raise InvalidRequirement(f"it has {len(text):,} characters, limit {MAX_REQUIREMENT:,}")
    try:
        return Requirement(text)
    except (ValueError, RecursionError) as error:  # such as of 500 parentheses
        raise InvalidRequirement(str(error)) from None


def _check_provided(label: str, requirement: Requirement) -> None:
    """Raise WheelRefused if the version of a PROVIDED package does not meet the requirement."""
    try:
        here = installed_version(requirement.name)
    except PackageNotFoundError:
        return  # Ginkgo itself, which is not installed as a package
    if not requirement.specifier.contains(here, prereleases=True):
        raise WheelRefused(
            "unavailable_dependency",
            _(
                "{label} needs {requirement}, and every node has {name} {here}, which Ginkgo "
                "itself needs; allow that version.",
                label=label,
                requirement=requirement,
                name=requirement.name,
                here=here,
            ),
        )
