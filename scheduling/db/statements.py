"""Named statements, and the SQL fragments that stand in more than one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")

from scheduling.decide.types import ACTIVE_STATES


@dataclass(frozen=True, slots=True, eq=False)
class Statement(Generic[R]):
    """One SQL statement. Failpoints and logs use its name.

    `row` is a NamedTuple with its columns, in order (tests/integration/enact/test_statements.py).
    """

    name: str
    sql: str
    row: type[R] | None = None


class IdRow(NamedTuple):
    """The id of a row that a statement found, wrote or deleted."""

    id: int


class PortfolioIdRow(NamedTuple):
    """The id of a portfolio whose row, run or item a statement found or wrote."""

    portfolio_id: int


#: For `state IN …`: the states of a handoff under way.
ACTIVE_HANDOFF_STATES = "(" + ", ".join(f"'{state}'" for state in ACTIVE_STATES) + ")"

#: Condition that a run `r` is in no handoff.
NO_ACTIVE_HANDOFF = (
    "NOT EXISTS (SELECT FROM scheduling_handoff h"
    f" WHERE h.portfolio_id = r.portfolio_id AND h.state IN {ACTIVE_HANDOFF_STATES})"
)


#: The id of the segment of a recorded feed whose records are in a stream. 0: in PostgreSQL.
STREAM_ID = -1

#: The segments of every feed. A recorded feed has one, which stands at its head since the newest
#: record was released: rate 0, as of a feed that is paused there.
FEED_SEGMENTS = f"""(
    SELECT feed_id, id, from_seq, from_time, rate FROM portfolios_feedsegment
    UNION ALL
    SELECT feed_id, CASE WHEN in_stream THEN {STREAM_ID} ELSE 0 END, head, released_at, 0
    FROM portfolios_feedwriter
)"""


def head_seq(at: str = "clock_timestamp()") -> str:
    """Return a bigint expression of SQL: the head of the feed segment `s` at the time `at`."""
    return f"s.from_seq + floor(extract(epoch FROM {at} - s.from_time) * s.rate)::bigint"


def head_of_feed(feed: str) -> str:
    """Return an SQL subquery of the head of a feed now. `feed` is an expression of its id."""
    return (
        f"(SELECT {head_seq()} FROM {FEED_SEGMENTS} s"
        f" WHERE s.feed_id = {feed} ORDER BY s.id DESC LIMIT 1)"
    )


#: The microseconds at which the record after the last seq of a run `r` was released, on the feed of
#: its portfolio `p`. NULL: there is no such record. If the feed is in a stream, only some records
#: have rows: the time is then that of the next record with a row, or that of the head.
NEXT_RELEASED_US = """coalesce(
        (SELECT c.released_us FROM portfolios_feedrecord c
         WHERE c.feed_id = p.feed_id AND c.seq > r.last_seq ORDER BY c.seq LIMIT 1),
        (SELECT w.released_us FROM portfolios_feedwriter w
         WHERE w.feed_id = p.feed_id AND w.head > r.last_seq))"""


def head_of_portfolio(portfolio: str) -> str:
    """Return an SQL subquery of the head of the feed of `portfolio`, an expression of its id."""
    return head_of_feed(f"(SELECT f.feed_id FROM portfolios_portfolio f WHERE f.id = {portfolio})")


#: Condition that nodes can reach the process of a gateway's row `g` now. A pulse ahead of the clock
#: does not count: the clock was set back, and the pulse would count as new until the clock has
#: caught up. Parameter: gap_s, the age that a pulse may have.
GATEWAY_FIT = (
    "(g.left_at IS NULL AND g.pulsed_at"
    " BETWEEN clock_timestamp() - make_interval(secs => %(gap_s)s)"
    " AND clock_timestamp() + interval '1 s')"
)


def gateway_served(seconds: str) -> str:
    """Return an SQL condition: gateway `g` has been fit for some time without a break.

    `seconds` is the name of the statement's parameter that holds this time.
    """
    return (
        f"({GATEWAY_FIT} AND g.serving_since"
        f" < clock_timestamp() - make_interval(secs => %({seconds})s))"
    )


def own_gateway_failed(lease: str, seconds: str) -> str:
    """Return an SQL condition: the node of the lease's row `lease` could not reach its gateway.

    The gateway of its last heartbeat was unfit at some moment of the last seconds, as many as the
    parameter named `seconds` holds. A gateway that stopped in order does not count: it closed its
    connections, so that the node went to another.
    """
    return (
        f"EXISTS (SELECT FROM scheduling_gateway g WHERE g.id = {lease}.gateway_id"
        f" AND g.left_at IS NULL AND NOT {gateway_served(seconds)})"
    )


def commits_blocked(seconds: str) -> str:
    """Return an SQL condition: a gateway reported a short time ago that commits are blocked.

    `seconds` is the name of the statement's parameter that holds how long ago at most.
    """
    return (
        "EXISTS (SELECT FROM scheduling_gateway g WHERE g.commits_stood_at"
        f" BETWEEN clock_timestamp() - make_interval(secs => %({seconds})s)"
        " AND clock_timestamp() + interval '1 s')"
    )


#: Size and rows of each table. Partitions count for their table. One read of pg_class; the sizes
#: come from the file system.
TABLE_SIZES = """
SELECT coalesce(p.relname, c.relname) AS name, sum(pg_total_relation_size(c.oid))::bigint AS bytes,
       sum(greatest(c.reltuples, 0))::bigint AS rows
FROM pg_class c
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
GROUP BY 1
"""

#: The one NOTIFY channel. A payload is {"groups": [...], "message": {...}}, far under 8,000 bytes.
CHANNEL = "ginkgo"


def _wake_call(groups: str) -> str:
    """Return an SQL call that wakes channel groups: `groups` are quoted names, with commas."""
    payload = '{"groups": [' + groups + '], "message": {"type": "wake"}}'
    return f"pg_notify('{CHANNEL}', '{payload}')"


NOTIFY_WATCHERS = _wake_call('"watcher", "board"')
NOTIFY_BOARDS = _wake_call('"board"')


def _node_call(also: str = "") -> str:
    """Return an SQL call that tells a node's sockets, and `also` groups, of its new version.

    `also` is SQL after the first group, such as ", 'watcher'".
    """
    return (
        f"pg_notify('{CHANNEL}', json_build_object("
        f"'groups', json_build_array('node.' || id{also}), 'message', "
        "json_build_object('type', 'desired.changed', 'version', desired_version))::text)"
    )


#: Tell a node's sockets its new version; from a row with the columns id and desired_version.
NOTIFY_NODE = _node_call()
NOTIFY_NODE_AND_WATCHERS = _node_call(", 'watcher', 'board'")
