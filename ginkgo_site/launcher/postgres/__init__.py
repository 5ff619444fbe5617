"""The embedded PostgreSQL of an installation: see `server`."""

from ginkgo_site.launcher.postgres.accounts import POSTGRES_UID
from ginkgo_site.launcher.postgres.server import EmbeddedPostgres

__all__ = ["POSTGRES_UID", "EmbeddedPostgres"]
