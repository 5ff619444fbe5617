"""Verify a portfolio's stored output against a reference run, and its owners against the audit log.

The comparison is in `portfolios.verify`; this package reads the evidence, and queues and runs
verifications.
"""
