"""Recorded feeds in PostgreSQL and in NATS JetStream as logs, and the recorders that append."""
