"""For which seqs partitions are attached, so that each feed has some ahead of it."""

from __future__ import annotations

import pytest

from portfolios.retention.partitions import Partition, missing_ranges


@pytest.mark.parametrize(
    ("attached", "head", "wanted"),
    [
        ([], 0, [(0, 100), (100, 200)]),
        ([(None, 100)], 50, [(100, 200), (200, 300)]),  # 50 + 200 lies in the second
        ([(None, 300)], 50, []),
        # Far beyond the last one: one covers the gap.
        ([(None, 100)], 950, [(100, 1050), (1050, 1150)]),
        # The old ones are archived; nothing is attached where they were.
        ([(800, 900), (900, 1000)], 850, [(1000, 1100)]),
        # A feed that begins below them.
        ([(800, 900)], 10, [(0, 110), (110, 210)]),
        # One that reaches them ends at their first seq, and goes on behind them.
        ([(800, 900)], 750, [(0, 800), (900, 1000)]),
        ([(None, 100), (800, 900)], 150, [(100, 250), (250, 350)]),
    ],
)
def test_missing_partition_ranges_reach_two_partitions_beyond_the_head(
    attached: list[tuple[int | None, int]], head: int, wanted: list[tuple[int, int]]
) -> None:
    parts = [Partition(f"p{low}", low, high) for low, high in attached]
    assert missing_ranges(parts, head, 100) == wanted
