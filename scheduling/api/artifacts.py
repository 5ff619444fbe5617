"""Strategy artifacts, and the strategies that portfolios can run."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import IO, Any

import django_filters
from django.db.models import QuerySet
from django.urls import reverse
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from portfolios.artifacts.lock import MAX_LOCK_BYTES
from portfolios.artifacts.wheel import MAX_WHEEL_BYTES
from portfolios.models import Artifact
from scheduling import operations
from scheduling.api.base import ApiView, TableView, actor_of
from scheduling.api.openapi import described, described_list, described_table, query
from scheduling.api.pagination import page_of_items
from scheduling.api.parsers import read_at_most
from scheduling.errors import Invalid
from scheduling.operations.artifacts import artifact_users, present_artifact
from scheduling.operations.registry import roll_out_actions
from scheduling.presentation.serializers.artifacts import (
    ArtifactDetailDocument,
    ArtifactDocument,
    StrategyDocument,
)
from scheduling.presentation.strategy_list import strategy_lines
from scheduling.presentation.uploads import limit_upload

#: Bytes of an uploaded form: a wheel, its lock, and the lines of the form around them.
MAX_BODY_BYTES = MAX_WHEEL_BYTES + MAX_LOCK_BYTES + 10_000


class WheelParser(BaseParser):
    """A body that is the wheel itself: `curl --data-binary @dist/x.whl`."""

    media_type = "application/octet-stream"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the bytes. Raise RequestDataTooBig if they are too many."""
        return read_at_most(stream, MAX_WHEEL_BYTES)


class ArtifactFilters(django_filters.FilterSet):
    name = django_filters.CharFilter()
    strategy = django_filters.CharFilter("strategies__name")


@described_table("Artifacts, newest first")
class ArtifactList(TableView):
    """Artifacts, newest first."""

    document = ArtifactDocument
    filters = ArtifactFilters
    order = ("-at", "sha256")
    parser_classes = (WheelParser, MultiPartParser)

    def rows(self) -> QuerySet[Artifact]:
        return Artifact.objects.prefetch_related("strategies")

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        """Limit the size of an uploaded form before anything reads it."""
        limit_upload(request, MAX_BODY_BYTES)
        return super().initialize_request(request, *args, **kwargs)

    @described(
        {200: ArtifactDocument, 201: ArtifactDocument},
        body={
            "multipart/form-data": {
                "type": "object",
                "properties": {
                    "wheel": {"type": "string", "format": "binary"},
                    "lock": {"type": "string", "format": "binary"},
                },
                "required": ["wheel"],
            },
            "application/octet-stream": {"type": "string", "format": "binary"},
        },
        parameters=[query("filename", str, "File name of a wheel that is itself the body.")],
        performs=roll_out_actions.ADD_ARTIFACT,
        of="an artifact",
    )
    def post(self, request: Request) -> Response:
        """Add an artifact: 201, or 200 if the same bytes were stored before."""
        filename, wheel, lock = _read_upload(request)
        added = operations.add_artifact(filename, wheel, lock, actor=actor_of(request))
        address = reverse("api:artifact", kwargs={"sha256": added.artifact.sha256})
        return Response(
            ArtifactDocument(added.artifact).data,
            status=201 if added.is_new else 200,
            headers={"Location": request.build_absolute_uri(address)},
        )


def _read_upload(request: Request) -> tuple[str, bytes, str]:
    """Return (file name, wheel, lock or ""). Raise Invalid for a missing wheel or a wrong lock."""
    data: Any = request.data
    if isinstance(data, bytes):
        filename = request.query_params.get("filename", "")
        if not filename:
            message = "is needed with a raw body: add ?filename=NAME.whl, or send a form."
            raise Invalid([{"field": "filename", "code": "required", "message": message}])
        return filename, data, ""
    wheel = request.FILES.get("wheel")
    if wheel is None:
        message = "is needed: send a form with the file wheel, and the file lock if it has one."
        raise Invalid([{"field": "wheel", "code": "required", "message": message}])
    lock: Any = request.FILES.get("lock")
    try:
        text = lock.read().decode() if lock is not None else str(data.get("lock", ""))
    except UnicodeDecodeError:
        message = "is not text in UTF-8."
        raise Invalid([{"field": "lock", "code": "wrong_type", "message": message}]) from None
    return str(wheel.name), wheel.read(), text


class ArtifactDetail(ApiView):
    """One artifact."""

    @described(ArtifactDetailDocument, summary="An artifact, its lock, and who uses it")
    def get(self, request: Request, sha256: str) -> Response:
        """Return the artifact with this hash or beginning of a hash, and who uses it."""
        artifact: Any = present_artifact(sha256)
        artifact.used_by = artifact_users(artifact.sha256)
        return Response(ArtifactDetailDocument(artifact).data)

    @described(None, status=204, performs=roll_out_actions.DELETE_ARTIFACT, of="an artifact")
    def delete(self, request: Request, sha256: str) -> Response:
        """Delete an artifact that no revision names."""
        operations.delete_artifact(sha256, actor=actor_of(request))
        return Response(status=204)


class StrategyList(ApiView):
    """Strategies of the release, of artifacts, and those installed on nodes."""

    @described_list(StrategyDocument, [query("name"), query("artifact")], "Strategies, by name")
    def get(self, request: Request) -> Response:
        """Return one page; filters: `?name=`, `?artifact=` (sha256)."""
        strategies = strategy_lines()
        for name in ("name", "artifact"):
            wanted = request.query_params.get(name)
            if wanted is not None:
                strategies = [each for each in strategies if getattr(each, name) == wanted]
        return page_of_items(request, strategies, attrgetter("key"), StrategyDocument)
