"""Wrong options of bin/chaos, bin/soak and the crash-point run are refused and named."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from chaos.__main__ import main as chaos
from chaos.crashpoints.__main__ import main as crashpoints
from chaos.soak.__main__ import main as soak

MINUTES = "is not a number above 0, at most 1440"


@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        (chaos, "--minutes abc", f"argument --minutes: 'abc' {MINUTES}"),
        (chaos, "--minutes 1441", f"argument --minutes: '1441' {MINUTES}"),
        (chaos, "--minutes nan", f"argument --minutes: 'nan' {MINUTES}"),
        (chaos, "--steps -2", "argument --steps: '-2' is not a whole number above 0"),
        (chaos, "--faults drain,nix", "unknown fault nix of the fleet one"),
        (chaos, "--fleet many --faults hostile-node", "See bin/chaos --fleet many --list."),
        (chaos, "--faults ,", "unknown fault , of the fleet one"),
        (soak, "--days abc", "argument --days: 'abc' is not a number above 0, at most 1000000"),
        (soak, "--rate -1", "argument --rate: '-1' is not a number above 0, at most 1000000"),
        (soak, "--faults nix", "unknown fault nix"),
        (crashpoints, "--only nix", "argument --only: 'nix' is neither a process nor part of"),
    ],
)
def test_a_wrong_option_is_refused_and_named(
    program: Callable[[list[str]], int],
    arguments: str,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        sys.exit(program(arguments.split()))
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
