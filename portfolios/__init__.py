"""What is traded: portfolios, strategies, feeds and the runtime that runs them."""
