"""Transactions, statements, snapshots and failpoints shared by everything that speaks SQL."""
