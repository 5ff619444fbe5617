"""Strategies from uploaded wheels. An artifact is identified by the sha256 of its wheel."""
