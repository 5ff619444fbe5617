"""Write roll-outs: each step locks the roll-out first, then what it changes of a portfolio.

So a pass and an operator who stops a roll-out or takes it back never decide at the same time: the
later one reads the state that the earlier one has written. A concurrent change of a portfolio locks
the portfolio's row, too, so one of the two waits; it then reads which revision the other wants.
"""

from scheduling.enact.roll_out.requests import begin_way_back, create, stop
from scheduling.enact.roll_out.steps import apply, give_back, start_item

__all__ = ["apply", "begin_way_back", "create", "give_back", "start_item", "stop"]
