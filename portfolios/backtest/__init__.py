"""Backtests: one strategy over a range of a feed, by the engine that runs it on a node.

`run.py` replays the range, `figures.py` sums it up, `document.py` is the result as a document, and
`page.py` shows it. Nothing here needs a database or a node.
"""
