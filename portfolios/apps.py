"""The portfolios app."""

from __future__ import annotations

from django.apps import AppConfig


class PortfoliosConfig(AppConfig):
    """The app of portfolios, strategies and feeds."""

    name = "portfolios"
    label = "portfolios"
    verbose_name = "Portfolios"
