"""Unpack a wheel for import. A program of its own, since the wheel comes from outside:

    python -I unpack.py WHEEL FOLDER

Writes the files of WHEEL into the new FOLDER, compiles them, makes them read-only, and prints the
digest of the result. If the wheel cannot be used, prints a sentence and exits with 1, or with 3 if
it needs another Python; if the disk fails, prints the error number and exits with 4. Nothing of the
wheel is imported.
"""

from __future__ import annotations

import compileall
import email
import hashlib
import os
import platform
import py_compile
import resource
import stat
import sys
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import parse_tag, sys_tags

MAX_FILES = 10_000
MAX_BYTES = 512 << 20  #: of all files together
MAX_METADATA_BYTES = 1 << 20  #: of a file in .dist-info that is read
MAX_NAME_BYTES = 255  #: of a file or folder, in the file systems of Linux
CHUNK_BYTES = 1 << 20  #: unpacked at once
MEMORY_BYTES, CPU_S = 1 << 30, 60  #: limits of this program
UNUSABLE, OTHER_PYTHON, DISK = 1, 3, 4  #: exit codes


class WheelUnusable(Exception):
    """The file is not a wheel that can be imported. The text continues "the artifact …"."""

    code = UNUSABLE


class NeedsOtherPython(WheelUnusable):
    """The wheel is for another Python or another system than this one."""

    code = OTHER_PYTHON


def unpack(wheel: Path, folder: Path) -> str:
    """Write the files of `wheel` into the new `folder`, compile them, and return their digest.

    Raise WheelUnusable, or OSError if the disk does not take them.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            _check_python(archive)
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > MAX_FILES:
                raise WheelUnusable(f"has {len(members)} files, limit {MAX_FILES}")
            targets: dict[PurePosixPath, zipfile.ZipInfo] = {}
            for member in members:
                if targets.setdefault(_relative_path(member), member) is not member:
                    raise WheelUnusable(f"has the file {member.filename!r} twice; build it again")
            folder.mkdir(mode=0o755)
            written = 0
            for path, member in targets.items():
                written += _write(archive, member, folder / path, MAX_BYTES - written)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError) as error:
        raise WheelUnusable(f"is not a valid wheel: {str(error) or 'it ends too early'}") from None
    except (NotImplementedError, RuntimeError) as error:  # another compression; encrypted
        raise WheelUnusable(f"cannot be unpacked: {error}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they would be printed beside the digest
        # A source with a syntax error stays uncompiled: its import names the line. Unchecked hashes
        # in place of times: the bytes, and so the digest, do not depend on when it was unpacked.
        compileall.compile_dir(
            folder,
            quiet=2,
            stripdir=str(folder.parent),
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    _make_read_only(folder)
    return digest(folder)


def digest(folder: Path) -> str:
    """Return the sha256 over the paths and contents of all files below `folder`."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _check_python(archive: zipfile.ZipFile) -> None:
    """Raise NeedsOtherPython unless the wheel's tags and Requires-Python allow this Python.

    Raise WheelUnusable if they cannot be read.
    """
    wheel = email.message_from_string(_metadata_file(archive, "WHEEL"))
    tags = [tag for text in wheel.get_all("Tag", []) for tag in parse_tag(text.strip())]
    if not tags:
        raise WheelUnusable("is not a valid wheel: its WHEEL file has no Tag")
    here = f"Python {platform.python_version()} on {platform.machine()}"
    if not set(tags) & set(sys_tags()):
        given = ", ".join(sorted(map(str, tags)))
        raise NeedsOtherPython(f"is built for {given}, which {here} cannot run")
    requires = email.message_from_string(_metadata_file(archive, "METADATA"))["Requires-Python"]
    try:
        fits = SpecifierSet(requires or "").contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier:
        raise WheelUnusable(f"has an invalid Requires-Python: {requires!r}") from None
    if not fits:
        raise NeedsOtherPython(f"needs Python {requires}, this is {here}")


def _metadata_file(archive: zipfile.ZipFile, name: str) -> str:
    """Return the file `name` of the wheel's .dist-info folder as text.

    Raise WheelUnusable unless there is exactly one, of MAX_METADATA_BYTES at most.
    """
    found = [
        member
        for member in archive.infolist()
        if member.filename.endswith(f".dist-info/{name}") and member.filename.count("/") == 1
    ]
    if len(found) != 1:
        raise WheelUnusable(
            f"is not a valid wheel: it has {len(found)} .dist-info/{name} files, not 1"
        )
    if found[0].file_size > MAX_METADATA_BYTES:
        size = found[0].file_size
        raise WheelUnusable(f"has a {name} file of {size:,} bytes, limit {MAX_METADATA_BYTES:,}")
    return archive.read(found[0]).decode(errors="replace")


def _relative_path(member: zipfile.ZipInfo) -> PurePosixPath:
    """Return where a file goes in the folder. Raise WheelUnusable if that may be outside of it."""
    name = member.filename
    path = PurePosixPath(name)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or is_link:
        raise WheelUnusable(f"has a link, or a path that may lead out of the wheel: {name!r}")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
        raise WheelUnusable(f"has a file with a name of over {MAX_NAME_BYTES} bytes: {name[:80]!r}")
    return path


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, room: int) -> int:
    """Write one file of at most `room` bytes, whatever the archive states; return its size."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    size = 0
    with archive.open(member) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            size += len(chunk)
            if size > room:
                raise WheelUnusable(
                    f"takes more than {MAX_BYTES >> 20} MB when unpacked, which is the limit"
                )
            file.write(chunk)
    return size


def _make_read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def main(arguments: list[str]) -> int:
    """Unpack, print the digest or why the wheel cannot be used, and return the exit code."""
    os.umask(0o022)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    try:
        print(unpack(Path(arguments[0]), Path(arguments[1])))
    except WheelUnusable as unusable:
        print(unusable)
        return unusable.code
    except (FileExistsError, NotADirectoryError) as error:
        print(f"has {error.filename} twice, or as a file and as a folder")
        return UNUSABLE
    except OSError as error:
        print(error.errno)
        return DISK
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
