"""Write roll-outs: each step locks the roll-out first, then what it changes of a portfolio.

So the pass and the operators who stop a roll-out or take it back never decide at the same time, and
the later one finds the other's state. A concurrent change of a portfolio locks the portfolio's row,
too, so one of the two waits; the wanted revision then shows whether the change came first.
"""

from scheduling.enact.roll_out.requests import begin_way_back, create, stop
from scheduling.enact.roll_out.steps import apply, give_back, start_item

__all__ = ["apply", "begin_way_back", "create", "give_back", "start_item", "stop"]
