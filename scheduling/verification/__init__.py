"""Holds what the fleet left behind against one uninterrupted run, and against its own audit trail.

The comparison itself is `portfolios.verify`; here is who ran what, read in one snapshot.
"""
