"""Strategies: the built-in ones, and how others are found."""
