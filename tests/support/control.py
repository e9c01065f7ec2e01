"""Plain HTTP on a server's control socket, as docs/command.md describes it, without our client."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

ANSWER_S_MAX = 30.0


def connected(repository: Path, *, timeout_s: float = ANSWER_S_MAX) -> socket.socket:
    """A connection to the control socket. Raises: OSError: nobody listens, or not to us."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect(str(repository / "vsnapfs.sock"))
    except BaseException:
        sock.close()
        raise
    return sock


def ask(repository: Path, verb: str, request: Any = None, *, body: bytes | None = None) -> tuple[int, Any]:
    """POST a request, or any bytes. Returns: the HTTP status, and the last line of the answer as an object.

    Raises: OSError, http.client.HTTPException: the server went away.
    """
    connection = http.client.HTTPConnection("localhost")
    connection.sock = connected(repository)
    try:
        connection.request("POST", f"/v1/{verb}", json.dumps(request or {}).encode() if body is None else body)
        response = connection.getresponse()
        return response.status, json.loads(response.read().splitlines()[-1])
    finally:
        connection.close()
