"""Check the records of a feed against its hash chain."""

from __future__ import annotations

from dataclasses import dataclass

from portfolios.feeds.log import CHAIN_START, SEGMENT_SEQS, completed_segment, next_link
from portfolios.models import FeedRow
from scheduling.db.transaction import execute_autocommit
from scheduling.observe.feed_records import digest
from scheduling.operations.feeds import find_feed
from scheduling.recorded_feeds.reads import stored_records

PAGE = 5_000  #: records read at once


@dataclass(slots=True)
class Checked:
    """How many records and segments of a feed were read and compared, and the first problem."""

    records: int = 0  #: that were read
    segments: int = 0  #: whose records have the hash of the chain
    problem: str = ""  #: a sentence; "": none


def check_feed(name: str) -> Checked:
    """Read every record that is kept, up to the first problem, and return what was found.

    Raise NotFound, or Refused for packaged bars, which have no records.
    """
    feed = FeedRow.objects.select_related("writer").get(pk=find_feed(name).pk)
    writer_row = feed.writer
    checked, next_seq = Checked(), writer_row.first_seq
    # If the first records were dropped, their hash is unknown: the chain is known from the end of
    # the first segment on.
    chain = CHAIN_START if next_seq == 1 else None
    while next_seq <= writer_row.head:
        rows = stored_records(feed, next_seq, min(writer_row.head, next_seq + PAGE - 1), PAGE)
        for row in rows:
            if row.seq != next_seq:
                break
            next_seq += 1
            checked.records += 1
            if chain is not None:
                chain = next_link(chain, bytes(row.event))
            segment = completed_segment(row.seq)
            if segment is None:
                continue
            recorded = execute_autocommit(digest(feed.pk, segment))
            if recorded is None or (chain is not None and chain != recorded):
                first = (segment - 1) * SEGMENT_SEQS + 1
                checked.problem = (
                    f"Records of feed {name} from seq {first:,} to {row.seq:,} are not those that"
                    " were recorded: their hash differs from the chain. Restore them from a backup."
                )
                return checked
            if chain is not None:
                checked.segments += 1
            chain = recorded
        if not rows or rows[-1].seq != next_seq - 1:  # the loop over `rows` ended at a gap
            checked.problem = (
                f"Feed {name} has no record of seq {next_seq:,}: restore its records from a backup."
            )
            return checked
    if chain is not None and chain != bytes(writer_row.chain):
        checked.problem = (
            f"The newest records of feed {name}, up to seq {writer_row.head:,}, are not those that"
            " were recorded: their hash differs from the chain. Restore them from a backup."
        )
    return checked
