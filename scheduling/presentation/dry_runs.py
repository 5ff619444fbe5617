"""The outcome of a dry run as a sentence and as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.utils.translation import get_language

from portfolios.backtest.document import Figures
from scheduling.decide.reasons import count, is_chinese
from scheduling.observe.localized_reason import localized_text
from scheduling.operations.dry_runs import DryRun
from scheduling.presentation.formatting import money, signed_money, whole


class FigureRow(NamedTuple):
    """One figure of both configurations. `before` is empty for a new portfolio."""

    name: str
    before: str
    after: str

    @property
    def differs(self) -> bool:
        """Return whether there was a configuration before, with another value of this figure."""
        return bool(self.before) and self.before != self.after


#: (name in English, name in Chinese, the figure as text).
_ROWS: tuple[tuple[str, str, Callable[[Figures], Any]], ...] = (
    ("orders", "订单", lambda f: whole(f.orders)),
    ("refused by limits", "被限额拒绝", lambda f: whole(f.refused)),
    ("fills", "成交", lambda f: whole(f.fills)),
    ("profit", "盈亏", lambda f: signed_money(f.profit)),
    ("fees", "费用", lambda f: money(f.fees)),
    ("largest drawdown", "最大回撤", lambda f: f"{100 * f.max_drawdown:.2f} %"),
    ("turnover", "成交额", lambda f: money(f.turnover)),
)


def figure_rows(outcome: DryRun) -> list[FigureRow]:
    """Return each figure of the configurations before and after, in the active language."""
    before = outcome.before
    return [
        FigureRow(
            zh if is_chinese(get_language()) else en,
            read(before) if before else "",
            read(outcome.after),
        )
        for en, zh, read in _ROWS
    ]


def dry_run_sentence(outcome: DryRun) -> str:
    """Return `Over the last 10,000 events …: 41 orders instead of 22.`"""
    after, before = outcome.after, outcome.before
    longest = after
    if before and after.halted:  # it ended early: the range is that of the run which went further
        longest = max(after, before, key=lambda figures: figures.events)
    first, last = (longest.first_at or "")[:10], (longest.last_at or "")[:10]
    if is_chinese(get_language()):
        which = "最近" if outcome.is_newest else "最早"
        instead = f"，现为 {whole(before.orders)} 笔" if before else ""
        halted = f"；会在第 {whole(after.events)} 个事件处被限额叫停：" if after.halted else ""
        return (
            f"在其标的的{which} {whole(longest.events)} 个事件（{first} 至 {last}）中："
            f"{whole(after.orders)} 笔订单{instead}{halted}{localized_text(after.halted or '')}。"
        )
    which = "last" if outcome.is_newest else "first"
    instead = f" instead of {whole(before.orders)}" if before else ""
    halted = f"; a limit would halt it at event {whole(after.events)}: " if after.halted else ""
    return (
        f"Over the {which} {count(longest.events, 'event')} of its symbols ({first} to {last}): "
        f"{count(after.orders, 'order')}{instead}{halted}{after.halted or ''}."
    )
