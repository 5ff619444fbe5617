"""Recorded feeds: the one place that writes their records, their writer and their source ids.

An append is one statement, conditional on the writer's epoch and on the head that it continues
from. So of two appends at once only one passes, and none of a writer that was replaced: the row of
`portfolios_feedwriter` is the fence.
"""

from scheduling.enact.feed_records.appends import (
    KEPT_APPENDS,
    append,
    append_columns,
    check_fence,
    stored_answer,
)
from scheduling.enact.feed_records.retention import (
    drop_due,
    drop_orphans,
    drop_records,
    forget_appends,
)
from scheduling.enact.feed_records.streams import Sent, mirror
from scheduling.enact.feed_records.writers import (
    NoSuchFeed,
    WriterRow,
    claim,
    instruments,
    release,
    writer,
)

__all__ = [
    "KEPT_APPENDS",
    "NoSuchFeed",
    "Sent",
    "WriterRow",
    "append",
    "append_columns",
    "check_fence",
    "claim",
    "drop_due",
    "drop_orphans",
    "drop_records",
    "forget_appends",
    "instruments",
    "mirror",
    "release",
    "stored_answer",
    "writer",
]
