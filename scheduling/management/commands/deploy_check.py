"""manage.py deploy_check [--url URL]... [--ca FILE]"""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from rich.console import Console

from scheduling.decide.deploy_check import Finding
from scheduling.management.base import GinkgoCommand
from scheduling.operations.deploy_check import deploy_check

_STYLES = {"error": "red", "warning": "yellow"}


class Command(GinkgoCommand):
    help = (
        "Say what is wrong with this installation, as seen from this host: settings, database, "
        "processes, nodes, tokens, clock, disk. Changes nothing. Exits with 1 if anything is an "
        "error, with --strict also if anything is a warning."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url",
            action="append",
            default=[],
            metavar="URL",
            help="an address that nodes and browsers use; it is asked whether it is ready",
        )
        parser.add_argument(
            "--ca", type=Path, metavar="FILE", help="certificates of your own authority"
        )
        parser.add_argument("--strict", action="store_true", help="count warnings as errors")

    def act(self, options: dict[str, Any]) -> None:
        found = deploy_check(options["url"], options["ca"])
        warnings = len(found.findings) - found.errors
        document = {
            "errors": found.errors,
            "warnings": warnings,
            "findings": [asdict(finding) for finding in found.findings],
        }
        self.show(document, partial(_draw, found.findings))
        if found.errors or (options["strict"] and warnings):
            sys.exit(1)


def _draw(findings: list[Finding], console: Console) -> None:
    for finding in findings:
        style = _STYLES[finding.severity]
        console.print(finding.severity, style=style, end="")
        console.print(f" {finding.topic}: ", end="")
        console.print(finding.found)
        console.print(f"    wanted: {finding.wanted}")
        console.print(f"    helps:  {finding.helps}")
    if not findings:
        console.print("Nothing is wrong, as far as this host can see.")
