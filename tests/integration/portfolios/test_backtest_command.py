"""manage.py backtest: in its guarded process, without a database."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

RANGE = ("--from", "2009-09-01", "--to", "2009-12-31")


def backtest(*arguments: str) -> str:
    """Return what the command prints."""
    out = io.StringIO()
    call_command("backtest", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_figures_documents_and_page_agree(tmp_path: Path) -> None:
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
    again = json.loads(backtest(*given, "--json"))
    assert again | {"elapsed_s": 0} == document | {"elapsed_s": 0}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no_such",), "unknown strategy 'no_such'; there are: buy_and_hold, canary"),
        (("sma_cross",), "sma_cross trades the symbols it is given and was given none"),
        (("sma_cross", "--symbols", "IBM", "--config", "fast=0"), "fast is 0; give a whole number"),
        (("sma_cross", "--symbols", "IBM", "--config", "quick=5"), "has no parameter quick"),
        (("sma_cross", "--symbols", "NOPE"), "The feed has no NOPE"),
        (("sma_cross", "--symbols", "IBM", "--feed", "tape"), "Unknown feed 'tape'"),
        (("sma_cross", "--symbols", "IBM", "--cash", "0"), "give an amount over 0"),
        (("sma_cross", "--symbols", "IBM", "--from", "9", "--to", "3"), "The range is empty"),
        (("sma_cross", "--symbols", "IBM", "--config", "fast"), "must be NAME=VALUE"),
        (("sma_cross", "--config-file", "/none.json"), "/none.json cannot be read"),
        (("sma_cross", "--html", "/"), "/ is a folder"),
        (("sma_cross", "--json", "/none/result.json"), "There is no folder /none"),
        (("sma_cross", "--symbols", "IBM", "--limits", '{"most": 1}'), "There is no limit most"),
    ],
)
def test_wrong_input_is_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(CommandError) as refused:
        backtest(*arguments)
    assert sentence in str(refused.value)


def test_parameters_of_a_file_give_way_to_those_of_the_line(tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_text('{"fast": 3, "slow": 9}')
    arguments = (
        "--config-file",
        str(file),
        "--config",
        "fast=4",
        "--symbols",
        "IBM",
        "--to",
        "900",
    )
    document: dict[str, Any] = json.loads(backtest("sma_cross", *arguments, "--json"))
    assert document["input"]["parameters"] == {"fast": 4, "slow": 9}


def test_strategy_that_ends_its_process_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GINKGO_STRATEGIES", "tests.support.strategies.exits_on_init")
    with pytest.raises(CommandError, match="leaving stopped at seq 1: its process exited with"):
        backtest("leaving", "--symbols", "IBM", "--to", "900")
