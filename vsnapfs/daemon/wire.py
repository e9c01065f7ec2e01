"""Bytes on the control socket: a request is one JSON object, its answer lines of JSON.

``POST /v1/<verb>``; the answer is zero or more ``{"progress": …}`` lines, then one ``{"result": …}`` or
``{"error": …}``. An empty line says only that the server is alive. A reader that is slow misses progress lines.

Source: docs/command.md, section on the control socket.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import VsnapfsError, from_object, to_object
from vsnapfs.core.state import Progress

BODY_BYTES_MAX = 2**20
HEARTBEAT_S = 2.0
"""The server writes at least this often while it works."""
SILENCE_S_MAX = 20.0
"""A server that is silent this long is taken for hung by the command."""

KEEPALIVE = b"\n"


class ErrorFields(msgspec.Struct, omit_defaults=True):
    """What an error may say besides its message; others are ignored."""

    volume: str | int | None = None
    seqno: int | None = None
    segment: int | None = None
    offset_bytes: int | None = None
    hint: str | None = None
    near: list[str] = []
    pid: int | None = None


class ErrorObject(msgspec.Struct):
    """An error as core.errors.to_object writes it."""

    kind: str
    exit_status: int
    message: str
    fields: ErrorFields


class Line(msgspec.Struct):
    """One line of an answer; exactly one member is there."""

    progress: Progress | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: ErrorObject | None = None


def progress_line(progress: Progress) -> bytes:
    return msgspec.json.encode({"progress": progress}) + b"\n"


def result_line(result: Any) -> bytes:
    return msgspec.json.encode({"result": result}) + b"\n"


def error_line(error: VsnapfsError) -> bytes:
    return msgspec.json.encode({"error": to_object(error)}) + b"\n"


def read_line(line: bytes) -> Line:
    """Raises: msgspec.DecodeError, msgspec.ValidationError: not a line of ours."""
    return from_json(line, Line)


def error_of(found: ErrorObject) -> VsnapfsError:
    """The error that the other side raised."""
    return from_object(msgspec.to_builtins(found))
