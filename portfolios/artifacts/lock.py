"""The lock of an artifact: the exact packages that it needs, each with its hashes.

`uv pip compile --generate-hashes` and `uv export` write it. Only pinned packages with hashes are
accepted: a line that names another index, an address or a folder would let the owner of that place
choose what nodes run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from portfolios.artifacts.wheel import WheelRefused, parse_requirement
from portfolios.sentences import sentence as _

MAX_LOCK_BYTES = 1 << 20
MAX_PACKAGES = 500
#: What to do about a lock that is refused, as the end of a sentence.
HOW = _(
    "make a lock with `uv pip compile pyproject.toml --generate-hashes -o requirements.lock` and "
    "give it with the wheel"
)
_HASH = re.compile(r"--hash=(sha256|sha384|sha512):([0-9a-f]{64,128})")
_COMMENT = re.compile(r"(^|\s)#.*")
#: The comment that names the modules which a node imports before it forks processes. It is kept.
_PRELOAD = re.compile(r"^# preload:((?: [A-Za-z_][A-Za-z0-9_.]*)+) *$", re.MULTILINE)


def normalise_lock(text: str) -> str:
    """Return the lock with one line for each package, sorted. Of comments, `# preload:` stays.

    Raise WheelRefused with a sentence that names the line. An empty lock is an empty text.
    """
    if len(text.encode()) > MAX_LOCK_BYTES:
        raise WheelRefused(
            "payload_too_large",
            _(
                "The lock has {size:,} bytes; at most {max_lock_bytes:,} are allowed.",
                size=len(text.encode()),
                max_lock_bytes=MAX_LOCK_BYTES,
            ),
        )
    packages: dict[tuple[str, str], str] = {}
    for number, line in _logical_lines(text):
        requirement, hashes = _parse(number, line)
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        marker = f" ; {requirement.marker}" if requirement.marker is not None else ""
        name = canonicalize_name(requirement.name)
        key = (name, marker)
        if key in packages:
            raise _refusal(number, _("names {name} again", name=name))
        listed = " ".join(f"--hash={kind}:{digest}" for kind, digest in sorted(hashes))
        packages[key] = f"{name}{extras}{requirement.specifier}{marker} {listed}"
    if len(packages) > MAX_PACKAGES:
        raise WheelRefused(
            "payload_too_large",
            _(
                "The lock has {number} packages, limit {max_packages}.",
                number=len(packages),
                max_packages=MAX_PACKAGES,
            ),
        )
    preload = _PRELOAD.search(text)
    head = [f"# preload:{preload[1]}"] if preload is not None and packages else []
    lines = [*head, *(packages[key] for key in sorted(packages))]
    return "".join(f"{line}\n" for line in lines)


def env_sha256(lock: str) -> str:
    """Return the sha256 of a normalised lock, which names its environment; "" if it is empty."""
    return hashlib.sha256(lock.encode()).hexdigest() if lock else ""


def check_complete(label: str, requires: Iterable[Requirement], lock: str) -> None:
    """Raise WheelRefused, which names `label`, unless the lock meets every requirement."""
    pinned = _pinned_versions(lock)
    for requirement in requires:
        found = pinned.get(canonicalize_name(requirement.name))
        if found is None and not lock:
            raise WheelRefused(
                "lock_needed",
                _(
                    "{label} needs {requirement}, and no lock was given: {how}.",
                    label=label,
                    requirement=requirement,
                    how=HOW,
                ),
            )
        if found is None:
            raise WheelRefused(
                "lock_incomplete",
                _(
                    "{label} needs {requirement}, which its lock lacks: {how}.",
                    label=label,
                    requirement=requirement,
                    how=HOW,
                ),
            )
        if not requirement.specifier.contains(found, prereleases=True):
            raise WheelRefused(
                "lock_incomplete",
                _(
                    "{label} needs {requirement}, and its lock has {name} {found}: {how}.",
                    label=label,
                    requirement=requirement,
                    name=requirement.name,
                    found=found,
                    how=HOW,
                ),
            )


def _pinned_versions(lock: str) -> dict[str, Version]:
    """Return the versions of a normalised lock, by package."""
    found: dict[str, Version] = {}
    for line in lock.splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line.partition(" --hash=")[0])
            (specifier,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """Yield each requirement as (number of its first line, text), with continued lines joined."""
    parts: list[str] = []
    first = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _COMMENT.sub("", raw).strip()
        if not parts:
            first = number
        if line.endswith("\\"):
            parts.append(line[:-1].strip())
            continue
        joined = " ".join([*parts, line]).strip()
        parts = []
        if joined:
            yield first, joined
    if any(parts):
        yield first, " ".join(parts).strip()


def _parse(number: int, line: str) -> tuple[Requirement, set[tuple[str, str]]]:
    """Return the package of a line, and its hashes as (algorithm, digest). Raise WheelRefused."""
    hashes = set(_HASH.findall(line))
    rest = _HASH.sub("", line).strip()
    if line.startswith("-"):
        raise _refusal(
            number, _("is the option {option}, which a lock may not have", option=line.split()[0])
        )
    if re.search(r"\s--\w", rest):
        raise _refusal(number, _("has an option other than --hash"))
    if "://" in rest or " @ " in rest or rest.startswith((".", "/")):
        raise _refusal(number, _("names an address or a folder instead of a version"))
    try:
        requirement = parse_requirement(rest)
    except InvalidRequirement:
        raise _refusal(
            number, _("is not a package with its version: {rest!r}", rest=rest[:80])
        ) from None
    pins = list(requirement.specifier)
    if len(pins) != 1 or pins[0].operator != "==" or not _is_version(pins[0].version):
        raise _refusal(
            number, _("does not pin one version of {name} with ==", name=requirement.name)
        )
    if not hashes:
        raise _refusal(number, _("has no --hash for {name}", name=requirement.name))
    return requirement, hashes


def _is_version(text: str) -> bool:
    """Return whether `text` is one version; the pattern `1.*`, which may follow `==`, is not."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _refusal(number: int, what: str) -> WheelRefused:
    """Return the refusal of line `number`; `what` continues "line 3 of the lock …"."""
    return WheelRefused(
        "not_a_lock",
        _(
            "Line {number} of the lock {what}. A lock has lines like NAME==VERSION "
            "--hash=sha256:…; {how}.",
            number=number,
            what=what,
            how=HOW,
        ),
    )
