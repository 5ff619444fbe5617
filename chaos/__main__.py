"""bin/chaos: inject faults into an installation and verify that no event was lost."""

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

from chaos.faults.registry import FLEETS
from chaos.harness import nats_server
from chaos.harness.many import servers
from chaos.report import text as report
from chaos.runner.progress import ProgressDisplay
from chaos.runner.run import ChaosRun
from chaos.runner.topology import PRODUCT_TIMES, SHORT_TIMES
from ginkgo_site.env import CHECKOUT
from portfolios.runtime.closed_output import exits_on_closed_output


def main(arguments: list[str] | None = None) -> int:
    """Run and report. Return 0 after a whole run without violations, else 1; 2 if it cannot run."""
    options = _parser().parse_args(arguments)
    if options.list:
        return _print_faults(options.fleet, options.json)
    names = _chosen_faults(options.fleet, options.faults)
    if lacking := _lacking(options.fleet):
        print(f"bin/chaos: {lacking}", file=sys.stderr)
        return 2
    seed = random.SystemRandom().randrange(10_000) if options.seed is None else options.seed
    home = _make_home(options.home)
    folder = options.report or CHECKOUT / ".ginkgo" / "chaos" / _report_folder(options.fleet, seed)
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
        on_step_end=lambda run: report.write(report.as_dict(run.outcome), folder),
    )
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: run.stopping.set())
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
        choices=sorted(FLEETS),
        default="one",
        help="one: bin/up; jetstream: the same with a feed in a NATS server that grows throughout;"
        " many: three web processes behind HAProxy, Redis, two watchers and workers, PostgreSQL"
        " with standbys under Patroni; default: one",
    )
    parser.add_argument("--minutes", type=_minutes, default=5.0, metavar="N", help="default: 5")
    parser.add_argument("--steps", type=int, metavar="N", help="stop after N steps at the latest")
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


def _minutes(text: str) -> float:
    wrong = argparse.ArgumentTypeError(
        f"invalid minutes: {text}. Expected a number above 0, at most 1440"
    )
    try:
        minutes = float(text)
    except ValueError:
        raise wrong from None
    if not 0 < minutes <= 24 * 60:
        raise wrong
    return minutes


def _report_folder(fleet: str, seed: int) -> str:
    return f"seed-{seed}" if fleet == "one" else f"{fleet}-seed-{seed}"


def _chosen_faults(fleet: str, given: str | None) -> list[str]:
    """Return the names of the faults to inject. Exit with status 2 if one is unknown."""
    known = FLEETS[fleet]
    names = [name.strip() for name in given.split(",") if name.strip()] if given else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        print(
            f"bin/chaos: unknown fault {', '.join(unknown)} of the fleet {fleet}. Use --list to"
            " see all faults.",
            file=sys.stderr,
        )
        sys.exit(2)
    return list(dict.fromkeys(names))


def _print_faults(fleet: str, as_json: bool) -> int:
    """Print the faults of a fleet, and return the exit code."""
    rows: list[dict[str, Any]] = [
        {
            "name": fault.name,
            "what": fault.title,
            "moves_nothing": fault.moves_nothing,
            "alone": fault.alone,
            "is_load": fault.is_load,
        }
        for fault in FLEETS[fleet].values()
    ]
    if as_json:
        print(json.dumps(rows))
    else:
        for row in rows:
            note = " No portfolio may move." if row["moves_nothing"] else ""
            print(f"{row['name']:<26} {row['what']}{note}")
    return 0


def _make_home(given: Path | None) -> Path:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        return given.resolve()
    home = Path(tempfile.mkdtemp(prefix="ginkgo-chaos-"))
    os.chmod(home, 0o755)  # the database server runs as another user
    return home


if __name__ == "__main__":
    with exits_on_closed_output():
        sys.exit(main())
