"""What a target can be brought to (bring.py): a volume at a point, and an image or another open file."""

from __future__ import annotations

from collections.abc import Iterator

from vsnapfs.binding import RunKind, View
from vsnapfs.core.errors import BusyError, from_os_error
from vsnapfs.repository.sparse import Span, data_spans, read_up_to


def data_of(view: View) -> Iterator[Span]:
    """Where a view has data."""
    for run in view.runs():
        if run.kind == RunKind.DATA:
            yield Span(run.offset_bytes, run.offset_bytes + run.length_bytes)


class ViewSource:
    """A volume at a point. Each block that is read is compared with its checksum."""

    def __init__(self, view: View) -> None:
        self._view = view

    @property
    def size_bytes(self) -> int:
        return self._view.size_bytes

    def spans(self) -> Iterator[Span]:
        return data_of(self._view)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        return self._view.read(offset_bytes, length_bytes)


class FileSource:
    """The first ``size_bytes`` of an open file or device, which stays the caller's. what: for errors, such as ``the image of db0``."""

    def __init__(self, fd: int, size_bytes: int, what: str) -> None:
        self._fd, self._size_bytes, self._what = fd, size_bytes, what

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def spans(self) -> Iterator[Span]:
        try:
            yield from data_spans(self._fd, self._size_bytes)
        except OSError as error:
            raise from_os_error(error, f"read {self._what}") from error

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        try:
            content = read_up_to(self._fd, length_bytes, offset_bytes)
        except OSError as error:
            raise from_os_error(error, f"read {self._what}") from error
        if len(content) != length_bytes:
            raise BusyError(
                f"{self._what} became shorter while it was read", hint="stop whoever uses it, and try again"
            )
        return content
