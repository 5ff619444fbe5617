"""bin/soak: compress days of trading into minutes, and report growing resources."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
from pathlib import Path

from chaos.__main__ import positive
from chaos.faults.registry import FAULTS as ALL_FAULTS
from chaos.harness.installation import make_home
from chaos.report import text as chaos_report
from chaos.runner.progress import ProgressDisplay
from chaos.soak import report
from chaos.soak.compression import Compression
from chaos.soak.run import FAULTS, Soak
from ginkgo_site.env import CHECKOUT
from portfolios.runtime.closed_output import exits_on_closed_output


def main(arguments: list[str] | None = None) -> int:
    """Return 0 after a whole run without growth or violations, 2 if it cannot run, else 1."""
    options = _parser().parse_args(arguments)
    names = [name for name in options.faults.split(",") if name]
    if unknown := [name for name in names if name not in ALL_FAULTS]:
        print(f"bin/soak: unknown fault {', '.join(unknown)}. See bin/chaos --list.",
              file=sys.stderr)  # fmt: skip
        return 2
    seed = random.SystemRandom().randrange(10_000) if options.seed is None else options.seed
    folder = options.report or CHECKOUT / ".ginkgo" / "soak" / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    home = make_home("ginkgo-soak-")
    compression, progress = Compression(options.days, options.minutes), ProgressDisplay()
    soak = Soak(
        home,
        compression,
        seed=seed,
        rate=options.rate,
        faults=names,
        samples=folder / "samples.jsonl",
        on_progress=progress.show,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: soak.stopping.set())
    soak.run()
    progress.end()
    found, samples = chaos_report.as_dict(soak.outcome), soak.sampler.samples
    text = report.as_text(found, samples, compression, options.rate)
    (folder / "report.txt").write_text(text, encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(found, default=str), encoding="utf-8")
    if samples:
        report.draw(found, samples, compression, folder / "report.svg")
    print(text)
    print(f"Report: {folder}", file=sys.stderr)
    good = not found["violations"] and soak.outcome.is_whole and not report.not_flat(samples)
    if good:
        shutil.rmtree(home, ignore_errors=True)
    else:
        print(f"The home directory is kept, with its logs: {home}", file=sys.stderr)
    return 0 if good else 1


_NUMBER = positive(1_000_000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/soak", description=__doc__)
    parser.add_argument("--days", type=_NUMBER, default=7.0, metavar="N", help="default: 7")
    parser.add_argument(
        "--minutes", type=_NUMBER, default=100.0, metavar="N", help="of real time; default: 100"
    )
    parser.add_argument(
        "--rate", type=_NUMBER, default=500.0, metavar="N",
        help="events per real second; default: 500",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the faults; default: random")
    parser.add_argument(
        "--faults", default=",".join(FAULTS), metavar="a,b", help="default: %(default)s"
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="directory of the report")
    return parser


if __name__ == "__main__":
    with exits_on_closed_output():
        sys.exit(main())
