"""The load in the trial of two versions: requests that an impatient operator might send."""

from __future__ import annotations

import collections
import contextlib
import json
import random
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from two_versions import Trial

#: Each is traded by one portfolio, `trader-0` and so on.
SYMBOLS = ("IBM", "GE", "HD", "XOM", "CVX", "JPM", "MS", "WFC")


class Load(threading.Thread):
    """Moves, reloads or changes a portfolio every half second."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(daemon=True)
        self._trial = trial
        self._random = random.Random(trial.seed)
        self._stopped = threading.Event()
        self.answers: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        """Send a request every half second, until `stop`."""
        names = [f"trader-{number}" for number in range(len(SYMBOLS))]
        while not self._stopped.wait(0.5):
            path = f"/api/portfolios/{self._random.choice(names)}/"
            body: dict[str, Any]
            match self._random.randrange(3):
                case 0:
                    target = self._random.choice(self._trial.nodes)
                    body = {"target_node": target, "reason": "trial"}
                    self._send("move", "POST", f"{path}migrate/", body)
                case 1:
                    self._send("reload", "POST", f"{path}reload/", {})
                case _:
                    quantity = str(self._random.randrange(1, 100))
                    body = {"config": {"fast": 2, "slow": 5, "quantity": quantity}}
                    self._send("change", "PATCH", path, body)

    def _send(self, what: str, method: str, path: str, body: dict[str, Any]) -> None:
        """Send a request, and count its answer under `what`, its status and its problem code."""
        status, text = call(self._trial.url, self._trial.token, method, path, body)
        code = ""
        if status >= 400:
            with contextlib.suppress(ValueError):
                code = f" {json.loads(text).get('code', '')}"
        self.answers[f"{what} {status}{code}"] += 1

    def stop(self) -> None:
        """Stop after the request that is on its way."""
        self._stopped.set()
        if self.is_alive():
            self.join()

    def summary(self) -> str:
        """Return how often each request had each answer."""
        return ", ".join(f"{found} {what}" for what, found in sorted(self.answers.items()))


def call(
    address: str, token: str, method: str, path: str, body: dict[str, Any] | None = None
) -> tuple[int, str]:
    """Return status and text of an answer; 0 and the error if there is none."""
    request = urllib.request.Request(
        address + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)
