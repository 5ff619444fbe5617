"""Feeds: list all, create and remove recorded ones, add instruments, and append rows."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.request import Request
from rest_framework.response import Response

from portfolios.feeds.log import SourceId
from portfolios.sentences import short_repr
from scheduling.api.base import ApiView, actor_of
from scheduling.api.openapi import described
from scheduling.api.request_serializers import read_body
from scheduling.api.throttling import AppendThrottle
from scheduling.errors import Invalid, NotFound
from scheduling.observe.feeds import FeedView, read_feeds
from scheduling.operations import feeds
from scheduling.presentation.fields import (
    ObjectField,
    StrictSerializer,
    TextField,
    WholeNumberField,
    YesNoField,
)
from scheduling.presentation.serializers.feeds import (
    AppendedDocument,
    FeedLogDocument,
    FeedsDocument,
)


class InstrumentsBody(StrictSerializer):
    """`instruments`: symbol → {tick, lot, scale, currency}, each optional."""

    instruments = ObjectField()


class FeedBody(InstrumentsBody):
    """A new recorded feed. `silent_after_s`: an alert opens after so long without a record.

    `keep_days`: older records are dropped once nothing needs them. `in_stream`: the records are
    kept in JetStream.
    """

    name = TextField(max_length=60, described_pattern=feeds.NAME)
    silent_after_s = WholeNumberField(min_value=1, required=False, allow_null=True, default=None)
    keep_days = WholeNumberField(min_value=1, required=False, allow_null=True, default=None)
    in_stream = YesNoField(required=False, default=False)


@extend_schema_field({"type": "array", "maxItems": feeds.MAX_ROWS, "items": {"type": "object"}})
class RowsField(serializers.Field[list[Any], Any, Any, Any]):
    """A list of objects; `portfolios.feeds.rows` reads them."""

    default_error_messages = {
        "not_a_list": "must be a list of rows, each an object with symbol, time and prices",
        "too_many": f"has more than {feeds.MAX_ROWS:,} rows; append them in parts",
    }

    def to_internal_value(self, data: Any) -> list[Any]:
        """Return the rows, each an object. Raise ValidationError, which numbers them from 1."""
        if not isinstance(data, list):
            self.fail("not_a_list")
        if len(data) > feeds.MAX_ROWS:
            self.fail("too_many")
        wrong = {
            str(number): [
                ErrorDetail(
                    f"row {number}: the row is not an object with symbol, time and prices",
                    "wrong_type",
                )
            ]
            for number, row in enumerate(data, start=1)
            if not isinstance(row, dict)
        }
        if wrong:
            raise serializers.ValidationError(dict(list(wrong.items())[: feeds.MAX_ERRORS]))
        return data

    def to_representation(self, value: list[Any]) -> Any:
        return value


class AppendBody(StrictSerializer):
    """`rows`: bars, trades or quotes, each with its symbol and its time with a time zone.

    `source` and `number` (1, 2, 3 …) make a repeat harmless: it is answered as before.
    """

    rows = RowsField()
    source = TextField(max_length=80, required=False, described_pattern=feeds.SOURCE)  # type: ignore[assignment]
    number = WholeNumberField(min_value=1, max_value=2**62, required=False)


class FeedList(ApiView):
    """All feeds."""

    @described(FeedsDocument, summary="Feeds", operation_id="feed_list")
    def get(self, request: Request) -> Response:
        """Return every feed; there are few."""
        return Response({"results": FeedLogDocument(read_feeds(), many=True).data})

    @described(FeedLogDocument, status=201, body=FeedBody, summary="Create a recorded feed")
    def post(self, request: Request) -> Response:
        """Create an empty recorded feed with its instruments."""
        given = read_body(request, FeedBody)
        instruments = _instruments(given.pop("instruments"))
        name = given.pop("name")
        feeds.create_feed(name, instruments, actor=actor_of(request), **given)
        return Response(_feed_document(name), status=201)


class FeedDetail(ApiView):
    """One feed."""

    @described(FeedLogDocument, summary="A feed and who reads it")
    def get(self, request: Request, name: str) -> Response:
        """Return the feed."""
        return Response(_feed_document(name))

    @described(None, status=204, summary="Remove a recorded feed that no portfolio needs")
    def delete(self, request: Request, name: str) -> Response:
        """Remove the feed with its records; 409 `feed_in_use` names who needs it."""
        feeds.remove_feed(name, actor=actor_of(request))
        return Response(status=204)


class FeedInstruments(ApiView):
    """The instruments of a recorded feed."""

    @described(FeedLogDocument, body=InstrumentsBody, summary="Add instruments to a recorded feed")
    def post(self, request: Request, name: str) -> Response:
        """Add instruments; 409 `instrument_differs` if one has another tick, scale or lot."""
        given = read_body(request, InstrumentsBody)
        feeds.add_instruments(name, _instruments(given["instruments"]), actor=actor_of(request))
        return Response(_feed_document(name))


class FeedAppend(ApiView):
    """Rows for a recorded feed."""

    throttle_classes = (AppendThrottle,)  # type: ignore[assignment]

    @described(AppendedDocument, body=AppendBody, summary="Append rows to a recorded feed")
    def post(self, request: Request, name: str) -> Response:
        """Append all rows or none; 400 names each wrong row by its number."""
        given = read_body(request, AppendBody)
        source = None
        if "source" in given or "number" in given:
            missing = {"source", "number"} - set(given)
            if missing:
                field = missing.pop()
                message = "is missing: give source and number together, or neither."
                raise Invalid([{"field": field, "code": "required", "message": message}])
            source = SourceId(given["source"], given["number"])
        done = feeds.append_rows(name, given["rows"], source)
        document = {
            "from_seq": done.from_seq,
            "to_seq": done.to_seq,
            "repeated": done.repeated,
            "missing": list(done.missing) if done.missing else None,
        }
        return Response(document)


def _instruments(given: dict[str, Any]) -> list[feeds.NewInstrument]:
    """Return the instruments of a body. Raise Invalid for the first that is wrong."""
    made = []
    for symbol, facts in given.items():
        if not isinstance(facts, dict):
            message = (
                f"{symbol[:30]} must be an object with any of tick, lot, scale and currency, not"
                f" {short_repr(facts)}."
            )
            raise Invalid(
                [{"field": f"instruments.{symbol[:30]}", "code": "wrong_type", "message": message}]
            )
        made.append(feeds.read_instrument(symbol, facts))
    return made


def _feed_document(name: str) -> Any:
    """Return the document of one feed, or raise NotFound."""
    found: list[FeedView] = read_feeds(name)
    if not found:
        raise NotFound("feed", name)
    return FeedLogDocument(found[0]).data
