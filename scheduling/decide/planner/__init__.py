"""Compute where every portfolio should run."""
