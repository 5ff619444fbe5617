"""bin/chaos: inject faults into an installation and verify that no event was lost."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.faults.registry import FAULTS_OF_FLEET
from chaos.harness import nats_server
from chaos.harness.installation import make_home
from chaos.harness.many import servers
from chaos.report import text as report
from chaos.runner.progress import ProgressDisplay
from chaos.runner.run import ChaosRun
from chaos.runner.topology import PRODUCT_TIMES, SHORT_TIMES
from ginkgo_site.env import CHECKOUT
from portfolios.runtime.closed_output import exits_on_closed_output


def main(arguments: list[str] | None = None) -> int:
    """Return 0 after --list or a whole run without violations, 2 if it cannot run, else 1."""
    options = _parser().parse_args(arguments)
    if options.list:
        _print_faults(options.fleet, options.json)
        return 0
    names = _chosen_faults(options.fleet, options.faults)
    if lacking := _lacking(options.fleet):
        print(f"bin/chaos: {lacking}", file=sys.stderr)
        return 2
    seed = random.SystemRandom().randrange(10_000) if options.seed is None else options.seed
    if options.home is None:
        home = make_home("ginkgo-chaos-")
    else:
        options.home.mkdir(parents=True, exist_ok=True)
        home = options.home.resolve()
    name = f"seed-{seed}" if options.fleet == "one" else f"{options.fleet}-seed-{seed}"
    folder = options.report or CHECKOUT / ".ginkgo" / "chaos" / name
    progress = ProgressDisplay()
    run = ChaosRun(
        home,
        PRODUCT_TIMES if options.product_times else SHORT_TIMES,
        seed=seed,
        minutes=options.minutes,
        faults=names,
        steps=options.steps,
        fleet=options.fleet,
        on_progress=progress.show,
        on_step_end=lambda so_far: report.write(report.as_dict(so_far.outcome), folder),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.stopping.set())
    run.run()
    progress.end()
    found = report.as_dict(run.outcome)
    report.write(found, folder)
    print(json.dumps(found, default=str) if options.json else report.as_text(found))
    print(f"Report: {folder / 'report.html'}", file=sys.stderr)
    if found["violations"]:
        print(f"The home directory is kept, with its logs: {home}", file=sys.stderr)
    elif options.home is None:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if found["violations"] or not run.outcome.is_whole else 0


def _lacking(fleet: str) -> str:
    """Return what this machine lacks for a fleet, and what helps; "" if nothing."""
    if fleet == "jetstream" and not Path(nats_server.PROGRAM).exists():
        return nats_server.MISSING
    return servers.missing() if fleet == "many" else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/chaos", description=__doc__)
    parser.add_argument(
        "--fleet",
        choices=sorted(FAULTS_OF_FLEET),
        default="one",
        help="one: bin/up; jetstream: the same with a feed in a NATS server that grows throughout;"
        " many: three web processes behind HAProxy, Redis, two watchers and workers, PostgreSQL"
        " with standbys under Patroni; default: one",
    )
    parser.add_argument(
        "--minutes", type=positive(24 * 60), default=5.0, metavar="N", help="default: 5"
    )
    parser.add_argument("--steps", type=_steps, metavar="N", help="stop after N steps")
    parser.add_argument(
        "--seed", type=int, metavar="S", help="seed of the schedule; default: random"
    )
    parser.add_argument(
        "--faults", metavar="a,b", help="faults to inject; default: all (see --list)"
    )
    parser.add_argument("--list", action="store_true", help="list the faults and exit")
    parser.add_argument("--report", type=Path, metavar="DIR", help="directory of the report")
    parser.add_argument(
        "--home", type=Path, metavar="DIR", help="home of the installation; default: temporary"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--product-times",
        action="store_true",
        help="use the product's time limits (a lease of 30 s instead of 6 s)",
    )
    return parser


def _steps(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")


def positive(most: int) -> Callable[[str], float]:
    """Return a function that parses the value of an option: a number above 0, at most `most`."""

    def read(text: str) -> float:
        wrong = argparse.ArgumentTypeError(f"{text!r} is not a number above 0, at most {most}")
        try:
            number = float(text)
        except ValueError:
            raise wrong from None
        if not 0 < number <= most:
            raise wrong
        return number

    return read


def _chosen_faults(fleet: str, given: str | None) -> list[str]:
    """Return the names in `given`, the value of --faults; all faults of the fleet without one.
    Exit with status 2 if a name is unknown."""
    known = FAULTS_OF_FLEET[fleet]
    names = list(known)
    if given:  # a value of commas only is an unknown name, not all faults
        names = [name.strip() for name in given.split(",") if name.strip()] or [given]
    unknown = [name for name in names if name not in known]
    if unknown:
        print(
            f"bin/chaos: unknown fault {', '.join(unknown)} of the fleet {fleet}. See bin/chaos"
            f" --fleet {fleet} --list.",
            file=sys.stderr,
        )
        sys.exit(2)
    return list(dict.fromkeys(names))


def _print_faults(fleet: str, as_json: bool) -> None:
    """Print the faults of a fleet, as JSON or a line each."""
    rows: list[dict[str, Any]] = [
        {
            "name": fault.name,
            "what": fault.title,
            "moves_nothing": fault.moves_nothing,
            "alone": fault.alone,
            "is_load": fault.is_load,
        }
        for fault in FAULTS_OF_FLEET[fleet].values()
    ]
    if as_json:
        print(json.dumps(rows))
    else:
        for row in rows:
            note = " No portfolio may move." if row["moves_nothing"] else ""
            print(f"{row['name']:<26} {row['what']}{note}")


if __name__ == "__main__":
    with exits_on_closed_output():
        sys.exit(main())
