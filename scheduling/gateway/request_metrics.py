"""What this web process answered nodes, for Prometheus. Scrape each web process by itself.

Requests are counted here and not in the database, where a count costs as much as the request.
"""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY = CollectorRegistry(auto_describe=False)

_REQUESTS = Histogram(
    "ginkgo_gateway_request_seconds",
    "From the end of the headers to the answer, by kind of request and HTTP status; 499: cut off.",
    ["kind", "status"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
_COMMITS = Counter(
    "ginkgo_gateway_commits",
    "Commits by answer; `fenced` and `conflict` wrote nothing.",
    ["answer"],
    registry=REGISTRY,
)


@cache  # there are few kinds and statuses, and a look-up by labels costs more than counting
def request_seconds(kind: str, status: int) -> Histogram:
    """Return the histogram of requests of this kind with this status."""
    return _REQUESTS.labels(kind, str(status))


@cache
def commits_answered(answer: str) -> Counter:
    """Return the counter of commits with this answer."""
    return _COMMITS.labels(answer)
