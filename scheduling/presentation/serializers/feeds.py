"""Feeds, their events, and what an append answers."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.serializers.fields import Document


class FeedLogDocument(Document):
    """A feed: where its log stands, who reads it, and what it keeps.

    `silent_s`: seconds since `newest_at`; an alert opens above `silent_after_s`, if that is not
    null. `keep_days`: null if records are kept for good.
    """

    name = serializers.CharField()
    kind = serializers.CharField(help_text="Kind of the feed: replay or recorded.")
    head = serializers.IntegerField()
    first_seq = serializers.IntegerField(help_text="Seq of the oldest record that is kept.")
    newest_at = serializers.DateTimeField(allow_null=True)
    silent_s = serializers.FloatField(allow_null=True)
    silent_after_s = serializers.IntegerField(allow_null=True)
    keep_days = serializers.IntegerField(allow_null=True)
    rate = serializers.FloatField(
        help_text="Events per second: of a recorded feed over the last minute, of a replay as set."
    )
    writer = serializers.CharField(
        help_text="Writer of the feed; empty: it has none, and any source may append."
    )
    in_stream = serializers.BooleanField(
        help_text="Whether the records of the feed are kept in NATS JetStream."
    )
    instruments = serializers.IntegerField()
    portfolios = serializers.ListField(child=serializers.CharField())


class FeedsDocument(Document):
    """All feeds."""

    results = FeedLogDocument(many=True)


class AppendedDocument(Document):
    """What an append has done. `repeated`: it was stored before, with these seqs."""

    from_seq = serializers.IntegerField()
    to_seq = serializers.IntegerField()
    repeated = serializers.BooleanField()
    missing = serializers.ListField(
        child=serializers.IntegerField(),
        allow_null=True,
        help_text="First and last of the source's numbers skipped before this append; null: none.",
    )


class FeedEventDocument(Document):
    """One bar. Prices are texts with the decimal places of their symbol."""

    seq = serializers.IntegerField()
    symbol = serializers.CharField()
    time = serializers.DateTimeField()
    open = serializers.CharField()
    high = serializers.CharField()
    low = serializers.CharField()
    close = serializers.CharField()
    volume = serializers.IntegerField()


class FeedDocument(Document):
    """Released events. `length`: events of one lap of a replay; of a recorded feed, its head."""

    head = serializers.IntegerField()
    length = serializers.IntegerField()
    results = FeedEventDocument(many=True)
