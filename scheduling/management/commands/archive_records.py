"""`manage.py archive_records`: archive and drop old partitions, then exit."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from portfolios.retention import ArchiveDiffers
from portfolios.runtime.parent_death import die_with_parent
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.retention import archive_now


class Command(GinkgoCommand):
    help = (
        "Attach the partitions that the feed will need, write those whose rows have passed their "
        "retention time to Parquet, read each file back, and drop the partition. The worker "
        "does this on schedule."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--parent", type=int, metavar="PID", help="exit with this process")

    def act(self, options: dict[str, Any]) -> None:
        if options["parent"]:
            die_with_parent(options["parent"])
        try:
            done = archive_now()
        except ArchiveDiffers as differs:
            raise Failed("archive_differs", str(differs)) from None
        except OSError as error:
            raise Failed(
                "archive_failed",
                f"A partition could not be archived, and is kept: {error}. Check the space "
                f"and the rights of {settings.GINKGO.archive}; the next run tries again.",
            ) from None
        if done is None:
            raise Failed("under_way", "Another process is archiving; wait until it has finished.")
        document = {
            "attached": done.attached,
            "archived": [
                {"path": str(one.path), "rows": one.rows, "sha256": one.digest}
                for one in done.archived
            ],
            "dropped": done.dropped,
            "kept": [{"partition": kept.partition, "why": kept.why} for kept in done.kept],
        }
        self.show(document, done.sentence())
