"""The portfolios app."""

from __future__ import annotations

from django.apps import AppConfig


class PortfoliosConfig(AppConfig):
    """What is traded."""

    name = "portfolios"
    label = "portfolios"
    verbose_name = "Portfolios"
