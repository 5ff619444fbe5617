"""manage.py backtest: in its sandboxed process, without a database."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from tests.support.commands import said
from tests.support.wheels import Wheel, sha256_of

CROSS = ("sma_cross", "--symbols", "IBM")
RANGE = ("--from", "2009-09-01", "--to", "2009-12-31")


def backtest(*arguments: str) -> str:
    return said("backtest", *arguments)


def test_document_page_and_printed_figures_of_a_backtest_agree(tmp_path: Path) -> None:
    page, file = tmp_path / "result.html", tmp_path / "result.json"
    costs = '{"broker": {"fee_bps": 2, "slippage_bps": "0.5"}}'
    config = ("--config", "fast=5", "slow=20", "--symbols", "IBM,XOM", "--limits", costs)
    given = ("sma_cross", *config, *RANGE)
    printed = backtest(*given, "--json", str(file), "--html", str(page))

    document = json.loads(file.read_text())
    figures, html = document["figures"], page.read_text()
    assert document["input"]["parameters"] == {"fast": 5, "slow": 20}
    assert figures["orders"] > 0 < Decimal(figures["fees"])
    assert Decimal(figures["equity"]) == 100_000 + Decimal(figures["profit"])
    assert Decimal(figures["profit"]) == (
        Decimal(figures["realised"]) + Decimal(figures["unrealised"]) - Decimal(figures["fees"])
    )
    assert f"{Decimal(figures['equity']):,.2f}" in printed
    assert f"{Decimal(figures['equity']):,.2f}" in html
    assert html.count("<svg") == 1
    assert "http" not in html and "<script" not in html  # one file, complete in itself
    # The same input gives the same document on every run.
    assert json.loads(backtest(*given, "--json")) | {"elapsed_s": 0} == document | {"elapsed_s": 0}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no_such",), "unknown strategy 'no_such'; there are: buy_and_hold, canary"),
        (("sma_cross",), "sma_cross trades the symbols it is given and was given none"),
        ((*CROSS, "--config", "fast=0"), "fast is 0; give a whole number"),
        (("sma_cross", "--symbols", "NOPE"), "The feed has no NOPE"),
        ((*CROSS, "--feed", "tape"), "There is no feed named 'tape'; `manage.py feed list`"),
        ((*CROSS, "--cash", "0"), "give an amount over 0"),
        ((*CROSS, "--config", "fast"), "must be NAME=VALUE"),
        (("sma_cross", "--config-file", "/none.json"), "/none.json cannot be read"),
        (("sma_cross", "--html", "/"), "/ is a folder"),
        (("sma_cross", "--html", "a", "--json", "./a"), "--html and --json name one file, a"),
        (("sma_cross", "--json", "/none/result.json"), "There is no folder /none"),
        ((*CROSS, "--limits", '{"most": 1}'), "There is no limit most"),
    ],
)
def test_wrong_input_of_a_backtest_is_refused_with_a_sentence(
    arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(CommandError) as refused:
        backtest(*arguments)
    assert sentence in str(refused.value)


def test_parameters_of_the_command_line_override_those_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_text('{"fast": 3, "slow": 9}')
    given = ("--config-file", str(file), "--config", "fast=4", "--to", "900")
    document: dict[str, Any] = json.loads(backtest(*CROSS, *given, "--json"))
    assert document["input"]["parameters"] == {"fast": 4, "slow": 9}


# --- artifacts -----------------------------------------------------------------------------------

PRICED = """
from decimal import Decimal
from typing import Annotated
import msgspec
from portfolios.strategies.base import FieldError, OrderIntent, Strategy, WarmUp

class Parameters(msgspec.Struct, frozen=True):
    size: Annotated[int, msgspec.Meta(ge=1)] = 1

class Priced(Strategy):
    name = "priced"
    parameters_type = Parameters

    @classmethod
    def check(cls, parameters, symbols):
        if parameters.size == 13:
            yield FieldError("size", "out_of_range", "size 13 brings bad luck.")

    def warm_up(self):
        return WarmUp(events=3)

    def on_event(self, ctx, state, event):
        state["seen"] = state.get("seen", 0) + 1
        ctx.metric("seen", state["seen"])
        if state["seen"] == 20:
            raise ValueError("twenty")
        return [OrderIntent(event.symbol, "buy", Decimal(self.parameters.size))]
"""


@pytest.fixture
def wheel(tmp_path: Path, settings: Any) -> Path:
    """Return the file of a wheel with one strategy; code is unpacked below the test's folder."""
    settings.GINKGO = replace(settings.GINKGO, home=tmp_path / "home")
    path = tmp_path / "pricing-1.0-py3-none-any.whl"
    made = Wheel({"pricing.py": PRICED}, {"priced": "pricing:Priced"}, package="pricing")
    path.write_bytes(made.data())
    return path


def test_strategy_of_a_wheel_is_warmed_up_and_run_in_its_own_process(wheel: Path) -> None:
    given = ("priced", "--artifact", str(wheel), "--symbols", "IBM")
    document = json.loads(backtest(*given, "--from", "2009-09-01", "--to", "2009-09-04", "--json"))
    assert document["input"]["artifact"] == sha256_of(wheel.read_bytes())
    # Four trading days after three of warm-up; a sample is taken before the day's own decision.
    assert document["figures"]["events"] == document["figures"]["orders"] == 4
    assert document["metrics"] == {"seen": {"last": 6.0, "low": 3.0, "high": 6.0}}

    with pytest.raises(CommandError, match=r"priced failed: ValueError: twenty in priced at seq"):
        backtest(*given)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("other", "--symbols", "IBM"), "has no strategy 'other'; it has: priced"),
        (("priced", "--symbols", "IBM", "--config", "size=0"), "size is 0; give a whole number"),
        (("priced", "--symbols", "IBM", "--config", "size=13"), "size 13 brings bad luck."),
    ],
)
def test_configuration_is_checked_by_the_strategy_of_the_wheel(
    wheel: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(CommandError) as refused:
        backtest(*arguments, "--artifact", str(wheel))
    assert sentence in str(refused.value)


def test_file_that_is_not_a_wheel_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "pricing-1.0-py3-none-any.whl"
    with pytest.raises(CommandError, match=r"whl cannot be read: No such file"):
        backtest("priced", "--artifact", str(path))
    path.write_bytes(b"text")
    with pytest.raises(CommandError, match="is not a wheel: File is not a zip file"):
        backtest("priced", "--artifact", str(path))


@pytest.mark.django_db
def test_artifact_that_was_added_runs_by_its_hash(wheel: Path) -> None:
    sha256 = sha256_of(wheel.read_bytes())
    given = ("priced", "--symbols", "IBM", "--to", "900", "--json", "--artifact")
    with pytest.raises(CommandError, match=r"There is no artifact [0-9a-f]{12}"):
        backtest(*given, sha256[:12])
    said("add_artifact", str(wheel))
    document = json.loads(backtest(*given, sha256[:12]))
    assert document["input"]["artifact"] == sha256
    assert document["metrics"]["seen"]["last"] > 0
