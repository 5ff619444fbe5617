"""bin/bench: run one of the measurements of this package."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

from portfolios.runtime.closed_output import exits_on_closed_output


def main() -> None:
    """Run the measurement of the first argument with the further ones. Exit 2 if it names none."""
    # A measurement is a module that can be run: it mentions __main__.
    paths = {
        path.stem: path
        for path in sorted(Path(__file__).parent.glob("*.py"))
        if path.stem != "__main__" and "__main__" in path.read_text(encoding="utf-8")
    }
    if len(sys.argv) < 2 or sys.argv[1] not in paths:
        print(f"usage: bin/bench {'|'.join(paths)} [arguments]", file=sys.stderr)
        sys.exit(2)
    name = sys.argv.pop(1)
    if {"-h", "--help"} & set(sys.argv):
        print(ast.get_docstring(ast.parse(paths[name].read_text(encoding="utf-8"))))
        return
    runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    with exits_on_closed_output():
        main()
