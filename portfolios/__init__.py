"""Portfolios, strategies, feeds and the runtime of portfolios."""
