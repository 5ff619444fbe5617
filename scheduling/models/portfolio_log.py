"""The newest lines that the processes of each portfolio printed."""

from __future__ import annotations

from django.db import models


class PortfolioLog(models.Model):
    """The log of one portfolio. Written only together with lines (`enact/portfolio_log.py`).

    Neither this table nor the lines have foreign keys in the database: writing a line must not lock
    the row of its portfolio.
    """

    portfolio = models.OneToOneField(
        "portfolios.Portfolio",
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="log",
        db_constraint=False,
    )
    last_no = models.BigIntegerField(help_text="Number of the newest line; the first is 1.")
    total_bytes = models.BigIntegerField(help_text="Bytes of all lines ever written.")
    lost = models.BigIntegerField(help_text="How many lines were printed and lost, ever.")
    batch = models.UUIDField(help_text="UUID of the last accepted batch.")
    at = models.DateTimeField(help_text="When the newest line was written.")

    def __str__(self) -> str:
        return f"log of {self.portfolio_id}, {self.last_no} lines"


class LogLine(models.Model):
    """One printed line, control and bidirectional characters escaped; or a count of lost lines."""

    pk = models.CompositePrimaryKey("portfolio_id", "no")
    portfolio = models.ForeignKey(
        "portfolios.Portfolio",
        on_delete=models.CASCADE,
        related_name="log_lines",
        db_index=False,
        db_constraint=False,
    )
    no = models.BigIntegerField()
    at = models.DateTimeField(help_text="When the node read the line, by the database's clock.")
    node = models.CharField(max_length=80)
    revision = models.PositiveIntegerField()
    text = models.TextField(help_text="Empty if lines were lost here.")
    lost = models.PositiveIntegerField(default=0, help_text="How many lines were lost here.")
    end_byte = models.BigIntegerField(help_text="Bytes of all lines up to and including this one.")

    class Meta:
        ordering = ["portfolio_id", "no"]

    def __str__(self) -> str:
        return f"{self.no} {self.text}"
