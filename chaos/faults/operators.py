"""Attacks on the control plane from outside: a flood of logins."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter

from chaos.faults.fault import Fault
from chaos.runner.fault_context import FaultContext

GUESSERS = 40
FLOOD_S = 6.0
#: Longest wait of an operator who halts. The flood also takes half of the processors.
HALT_LIMIT_S = 5.0


def login_flood(context: FaultContext) -> None:
    """Forty clients guess passwords; the kill switch keeps answering, and no portfolio moves."""
    over = threading.Event()
    answers: Counter[int] = Counter()
    url = context.cluster.access["url"]
    guessers = [
        threading.Thread(target=_guess, args=(url, number, over, answers), daemon=True)
        for number in range(GUESSERS)
    ]
    for guesser in guessers:
        guesser.start()
    context.undo.callback(over.set)
    end = time.monotonic() + FLOOD_S
    slowest_s = 0.0
    while time.monotonic() < end:
        began = time.monotonic()
        answer = context.request("GET", "/api/halt/")
        slowest_s = max(slowest_s, time.monotonic() - began)
        if answer is None or answer.status != 200:
            found = None if answer is None else answer.status
            context.report(
                "fault", "the kill switch did not answer during a flood of logins", {"found": found}
            )
        context.sleep(0.2)
    over.set()
    if slowest_s > HALT_LIMIT_S:
        sentence = f"the kill switch answered after {slowest_s:.1f} s, limit {HALT_LIMIT_S:g} s"
        context.report("fault", sentence, {"guesses": dict(answers)})
    if any(status >= 500 and status != 503 for status in answers):  # 503: too many at once
        context.report(
            "fault", "a login request failed instead of being refused", {"guesses": dict(answers)}
        )
    context.note(f"kill switch {slowest_s:.2f} s at most; guesses {dict(sorted(answers.items()))}")


def _guess(url: str, number: int, over: threading.Event, answers: Counter[int]) -> None:
    """Send wrong passwords as fast as they are answered."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.addheaders = [("Referer", url)]
    token = ""
    while not over.is_set():
        form = {"username": f"name-{number}", "password": "wrong", "csrfmiddlewaretoken": token}
        try:
            if not token:
                page = opener.open(f"{url}/login/", timeout=30).read().decode()
                token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
                continue
            body = urllib.parse.urlencode(form).encode()
            with opener.open(f"{url}/login/", body, timeout=30) as answer:
                answers[answer.status] += 1
        except urllib.error.HTTPError as error:
            answers[error.code] += 1
            over.wait(0.05)
        except OSError:
            over.wait(0.2)  # another fault may keep the web process down


FAULTS = (Fault("login-flood", login_flood, 8, moves_nothing=True),)
