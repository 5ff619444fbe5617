"""Prices in the database keep the places of their instrument."""

from __future__ import annotations

from decimal import Decimal

import psycopg

from tests.integration.test_live_migrations import Migrator
from tests.support.databases import new_database

FILES = """
SELECT relname, relfilenode FROM pg_class
WHERE relkind = 'r' AND relname ~ '^portfolios_(order|fill)'
"""


def test_migration_to_prices_of_more_decimal_places_rewrites_no_table() -> None:
    with new_database() as url, Migrator(url) as migrator:
        migrator.migrate("portfolios", "0006_artifacts")
        with psycopg.connect(url, autocommit=True) as session:
            before: dict[str, int] = dict(session.execute(FILES.encode()).fetchall())
            migrator.migrate("portfolios", "0007_price_places")
            assert dict(session.execute(FILES.encode()).fetchall()) == before
            assert any(table.startswith("portfolios_order_from_") for table in before)
            session.execute(
                b"INSERT INTO portfolios_fill (portfolio_id, order_id, fill_seq, index, symbol,"
                b" side, quantity, price, epoch, at) VALUES (1, '1', 1, 0, 'EURUSD', 'buy', 10,"
                b" '1.07083', 1, now())"
            )
            found = session.execute(b"SELECT price FROM portfolios_fill").fetchone()
        assert found == (Decimal("1.07083"),)
