"""During a flood of wrong logins an operator still reads, signs in elsewhere and halts."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ginkgo_site.web.logins import HASH_WAIT_S
from scheduling.operations.tokens import issue_api_token
from scheduling.permissions import Role
from tests.support.api_client import make_user
from tests.support.factories import make_node, make_portfolio, make_running_portfolio
from tests.support.web_process import running_web_process, set_real_password

GUESSERS = 40
PASSWORD = "correct horse battery"

#: A refusal in a sentence, or the form again; anything else is the flood's success.
FINE = {200, 429, 503}


@pytest.mark.django_db(transaction=True)
def test_forty_wrong_logins_at_once_keep_no_operator_from_halting(tmp_path: Path) -> None:
    operator = make_user("olive", Role.OPERATOR)
    set_real_password("olive", PASSWORD)
    token = issue_api_token(operator, actor="cast")
    make_running_portfolio("p", make_node("node-1"), events=10)
    make_portfolio("q")
    with running_web_process(tmp_path, GINKGO_TRUSTED_PROXIES="127.0.0.1") as url:
        seen = asyncio.run(_flood(url, token))
    assert set(seen["guesses"]) <= FINE, seen["guesses"]
    assert seen["guesses"].total() >= GUESSERS
    assert seen["sentence"], "a refused login is told in a sentence"
    assert seen["gets"] == Counter({200: 8})
    assert seen["halt"] == 200
    assert seen["dialog"] == 200, "the dashboard's dialog opens for a session"
    # Behind the guesses, every second one would wait until some of those had waited for their hash.
    # How long the three slowest of ten take says more about the machine.
    limit_s = max(HASH_WAIT_S, 5 * seen["calm_s"])
    assert sorted(seen["times"])[6] < limit_s, (seen["calm_s"], seen["times"])


async def _flood(url: str, token: str) -> dict[str, Any]:
    guesses: Counter[int] = Counter()
    sentences: set[str] = set()
    times: list[float] = []
    over, under_way = asyncio.Event(), asyncio.Event()

    async def guess(number: int) -> None:
        async with a_client(url, **{"X-Forwarded-For": f"10.0.{number}.1"}) as client:
            while not over.is_set():
                status, text = await _sign_in(client, f"name-{number}", "wrong")
                guesses[status] += 1
                sentences.update(re.findall(r"try again in \d+ s", text))
                if guesses.total() >= GUESSERS:
                    under_way.set()

    async def timed(request: Any) -> int:
        began = time.monotonic()
        async with request as answer:
            await answer.read()
        times.append(time.monotonic() - began)
        return int(answer.status)

    bearer = {"Authorization": f"Bearer {token}"}
    async with a_client(url, **bearer) as program, a_client(url) as person:
        assert (await _sign_in(person, "olive", PASSWORD))[0] == 302
        for _ in range(3):  # as long as one takes on this machine without the flood
            await timed(program.get("/api/halt/"))
        calm_s = sorted(times)[1]
        times.clear()
        tasks = [asyncio.create_task(guess(number)) for number in range(GUESSERS)]
        await under_way.wait()
        gets = Counter([await timed(program.get("/api/halt/")) for _ in range(8)])
        dialog = await timed(person.get("/halt/"))
        halt = await timed(program.post("/api/halt/", json={"reason": "flood"}))
        over.set()
        await asyncio.gather(*tasks)
    return {
        "guesses": guesses,
        "gets": gets,
        "halt": halt,
        "dialog": dialog,
        "sentence": sentences,
        "times": times,
        "calm_s": calm_s,
    }


def a_client(url: str, **headers: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        url,
        headers=headers,
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        timeout=aiohttp.ClientTimeout(2 * 60),
        connector=aiohttp.TCPConnector(limit=0),
    )


async def _sign_in(client: aiohttp.ClientSession, name: str, password: str) -> tuple[int, str]:
    """Return status and text of the answer to the form, or of the page where there is no form."""
    async with client.get("/login/") as page:
        text = await page.text()
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text)
    if found is None:
        return page.status, text
    form = {"username": name, "password": password, "csrfmiddlewaretoken": found[1]}
    async with client.post("/login/", data=form, allow_redirects=False) as answer:
        return answer.status, await answer.text()
