"""A repository that is spoken to as the command does, filled by imports."""

from __future__ import annotations

from pathlib import Path

from vsnapfs.daemon import requests as ask
from vsnapfs.daemon.client import Client, connect, create


def imported(directory: Path, contents: dict[str, bytes]) -> Client:
    """Its volume ``db`` is at each bookmark what ``contents`` says of that."""
    create(directory / "repository")
    client = connect(directory / "repository")
    for bookmark, content in contents.items():
        (directory / "image").write_bytes(content)
        client.call(ask.Import(images={"db": str(directory / "image")}, bookmark=bookmark))
    return client
