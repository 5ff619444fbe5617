"""Recorded feeds in streams of NATS JetStream."""
