"""The former name of `ginkgo_site.http_limits`, by which installed units and containers find it."""

from __future__ import annotations

from ginkgo_site.http_limits import GuardedHttp

__all__ = ["GuardedHttp"]
