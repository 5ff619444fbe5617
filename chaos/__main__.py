"""bin/chaos: hurt a house in every way there is, and prove that nothing was lost."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from chaos.faults.registry import FAULTS
from chaos.report import text as report
from chaos.runner.progress import Progress
from chaos.runner.run import Run
from chaos.runner.topology import PRODUCT, QUICK
from ginkgo_site.env import CHECKOUT


def main(arguments: list[str] | None = None) -> int:
    """Run and report. Exit 0 without violations, 1 with any, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    if options.list:
        return _list(options.json)
    names = _names(options.faults)
    seed = random.SystemRandom().randrange(10_000) if options.seed is None else options.seed
    home = _home(options.home)
    folder = options.report or CHECKOUT / ".ginkgo" / "chaos" / f"seed-{seed}"
    progress = Progress()
    run = Run(
        home,
        PRODUCT if options.product_times else QUICK,
        seed=seed,
        minutes=options.minutes,
        faults=names,
        steps=options.steps,
        say=progress.show,
        keep=lambda run: report.write(report.as_dict(run.outcome), folder),
    )
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: run.stopping.set())
    run.go()
    progress.end()
    found = report.as_dict(run.outcome)
    report.write(found, folder)
    print(json.dumps(found, default=str) if options.json else report.as_text(found))
    print(f"Report: {folder / 'report.html'}", file=sys.stderr)
    if found["violations"]:
        print(f"The house is kept with its logs: {home}", file=sys.stderr)
    elif options.home is None:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if found["violations"] or not run.outcome.is_whole else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/chaos", description=__doc__)
    parser.add_argument("--minutes", type=_minutes, default=5.0, metavar="N", help="default: 5")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="end after so many steps, if the time is not over"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of the schedule; default: drawn")
    parser.add_argument("--faults", metavar="a,b", help="only these; default: all (see --list)")
    parser.add_argument("--list", action="store_true", help="list the faults and end")
    parser.add_argument("--report", type=Path, metavar="DIR", help="where the report goes")
    parser.add_argument("--home", type=Path, metavar="DIR", help="of the house; default: temporary")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--product-times", action="store_true", help="a lease of 30 s instead of 6 s, and so on"
    )
    return parser


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes <= 24 * 60:
        raise argparse.ArgumentTypeError(f"{text} minutes: give a number above 0, a day at most")
    return minutes


def _names(given: str | None) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()] if given else list(FAULTS)
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        print(
            f"bin/chaos: there is no fault {', '.join(unknown)}: --list shows them all.",
            file=sys.stderr,
        )
        sys.exit(2)
    return list(dict.fromkeys(names))


def _list(as_json: bool) -> int:
    rows: list[dict[str, Any]] = [
        {
            "name": fault.name,
            "what": fault.title,
            "moves_nothing": fault.moves_nothing,
            "alone": fault.alone,
            "is_load": fault.is_load,
        }
        for fault in FAULTS.values()
    ]
    if as_json:
        print(json.dumps(rows))
    else:
        for row in rows:
            still = " Nothing may move." if row["moves_nothing"] else ""
            print(f"{row['name']:<26} {row['what']}{still}")
    return 0


def _home(given: Path | None) -> Path:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        return given.resolve()
    home = Path(tempfile.mkdtemp(prefix="ginkgo-chaos-"))
    os.chmod(home, 0o755)  # the database's user has to reach it
    return home


if __name__ == "__main__":
    sys.exit(main())
