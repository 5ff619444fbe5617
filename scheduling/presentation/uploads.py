"""Bound the files of an uploaded form, whatever length its headers state."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest


class _Quota(FileUploadHandler):
    """Refuses a form once its files have more bytes than allowed."""

    def __init__(self, request: HttpRequest, limit: int) -> None:
        super().__init__(request)
        self._limit, self._seen = limit, 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Count the bytes and hand them on. Raise RequestDataTooBig beyond the limit."""
        self._seen += len(raw_data)
        if self._seen > self._limit:
            raise RequestDataTooBig(
                f"The files have more than {self._limit:,} bytes together, which is the limit."
            )
        return raw_data

    def file_complete(self, file_size: int) -> UploadedFile | None:
        """Leave the file to the next handler."""
        return None


def limit_upload(request: Any, limit: int) -> None:
    """Refuse a form whose files have more than `limit` bytes together, with RequestDataTooBig.

    Call this before anything reads the form.
    """
    request.upload_handlers.insert(0, _Quota(request, limit))
