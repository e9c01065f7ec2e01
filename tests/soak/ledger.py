"""What was run, once a line: tests/soak/ledger.jsonl. Lines are only ever added."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

TOP = Path(__file__).parents[2]
LEDGER = Path(__file__).with_name("ledger.jsonl")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one harness. ``commit``: of the tree that was run, with a + if it had changes on top."""

    commit: str
    date: str
    harness: str
    seed: int
    count: int
    failures: int
    seconds: float


def commit() -> str:
    """Of this tree."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", "native", "vsnapfs", "tests", ":!tests/soak/ledger.jsonl")
    return f"{head}+" if changed else head


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def add(entry: Entry) -> None:
    with LEDGER.open("ab") as file:
        file.write(msgspec.json.encode(entry) + b"\n")


def entries() -> Iterator[Entry]:
    if LEDGER.exists():
        for line in LEDGER.read_bytes().splitlines():
            yield msgspec.json.decode(line, type=Entry)


def _git(*args: str) -> str:
    return subprocess.run(["git", "-C", str(TOP), *args], check=True, capture_output=True, text=True).stdout.strip()
