"""What each verb gets: a client of the server, and the options of the call."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ginkgo_cli.client import Client, Unanswered
from ginkgo_cli.names import Kind, resolve
from ginkgo_cli.tables import printable

POLL_S = 0.3  #: between two requests of a verb that waits


@dataclass(frozen=True)
class Context:
    """One call of a verb: a client of the server, and the parsed options."""

    client: Client
    given: argparse.Namespace

    def show(self, document: Any, text: str | Callable[[], str]) -> None:
        """Print `document` with --json, otherwise `text`; if that is a function, its result."""
        if self.given.json:
            print(printable(json.dumps(document, indent=2, ensure_ascii=False)))
        else:
            print(printable(text if isinstance(text, str) else text()))

    def poll(self, path: str, until: float) -> Any:
        """Return the document at /api/PATH, for a verb that waits until the monotonic time `until`.

        If the server does not answer, as in a restart, ask again; after `until` raise Unanswered.
        """
        while True:
            try:
                return self.client.get(path)
            except Unanswered:
                if time.monotonic() >= until:
                    raise
            time.sleep(POLL_S)

    def name(self, kind: Kind) -> str:
        """Return the name of the node or portfolio that the user's argument is or begins."""
        return resolve(self.client, kind, getattr(self.given, kind))
