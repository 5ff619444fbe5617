"""Market data as it was recorded, with what is odd about it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

#: Quotes of USD in Thai baht, June 1997, from the data set `usdthb` of R's package fBasics: several
#: in one minute, one that came late, and one without an ask.
USDTHB = """\
XDATE;DELAY;CONTRIBUTOR;BID;ASK;FLAG
9706011928;01;ANZM;+24.800;+25.000;0
9706011931;01;CBAP;+24.820;+25.020;0
9706012126;01;ANZM;+24.850;+25.005;0
9706012134;01;CBAP;+24.830;+25.030;0
9706012134;01;CBAP;+24.800;+25.000;0
9706200256;00;OUBV;+25.450;+25.550;0
9706200256;00;BBLS;+25.400;+25.600;0
9706200236;48;WLDB;+24.900;+25.400;0
9706200326;00;BBLT;+25.950;+26.050;0
9706260054;00;UOBX;+25.040;+25.540;0
9706260058;00;GBNP;+25.300;+0.000;0
9706260058;00;GBNP;+25.300;+25.450;0
"""


def eurusd_hours() -> Path:
    """Return a CSV file of 5,000 hourly bars with five decimals; weekends are left out."""
    package = find_spec("backtesting")  # found, not imported: it needs pandas and bokeh
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "test" / "EURUSD.csv"
