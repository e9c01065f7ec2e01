"""A hunt as plain values: what was tested, what was found. The rules of model.py hold here too.

Source: docs/hunt.md.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from vsnapfs.core.model import Point

Verdict = Literal["good", "bad", "skip"]
OnTimeout = Literal["abort", "bad", "skip"]
"""What a test is that takes too long."""
HuntState = Literal["found", "range", "contradiction", "unfinished"]
"""``found``: nothing lies between last_good and first_bad. ``range``: something does, which could not be tested.
``contradiction``: a later point is good and an earlier one bad, or an end is not what it was said to be. ``unfinished``: it was
aborted, interrupted or killed."""


class HuntProbe(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the test."""

    number: int
    point: Point
    verdict: Verdict
    exit_status: int | None
    """Of the test; None: it had none, and ``why`` says why."""
    why: str
    """"": the exit status says it all."""
    seconds: float
    output: str
    """File that has what the test printed; "": it was not run."""


class HuntFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a filesystem has at bytes of its volume."""

    path: str
    """From the top of the filesystem; "": it has no name."""
    inode: int | None
    what: str
    """``file``, or what else it is: ``journal``, ``metadata`` …"""


class HuntWrite(msgspec.Struct, frozen=True, kw_only=True):
    """A record: the write that made good bad."""

    seqno: int
    time: str
    time_ns: int
    volume: str
    offset_bytes: int
    length_bytes: int
    zero: bool
    """It put zeros there, or discarded what was there."""
    changed_bytes: int
    """So many bytes have another value than before; of the first ``compared_bytes``."""
    compared_bytes: int
    hex_diff: list[str]
    """``-`` lines of before and ``+`` lines of after, 16 bytes each, the first of those that differ."""
    filesystem: str
    """What is on the volume there; "": nothing that is known."""
    files: list[HuntFile]
    files_problem: str
    """Why there are none; "": there are."""


class Hunt(msgspec.Struct, frozen=True, kw_only=True):
    """What a hunt found, or has found so far."""

    id: str
    state: HuntState
    why: str
    """In words, unless it was found."""
    good: Point
    bad: Point
    """As they were given."""
    volumes: list[str]
    test: list[str]
    last_good: Point
    """The newest point that is known to be good."""
    first_bad: Point
    """The oldest point that is known to be bad."""
    last_good_bookmark: str | None
    """The newest bookmark at or before last_good; None: there is none between the ends."""
    first_bad_bookmark: str | None
    """The oldest at or after first_bad."""
    skipped: list[Point]
    """Those between the two that could not be tested."""
    untested: int
    """So many more candidates lie between them."""
    ends: list[HuntProbe]
    """The tests of ``good`` and ``bad``."""
    probes: list[HuntProbe]
    """Those between them, in the order in which they ended."""
    contradiction: list[Point]
    """The bad point, and the later one that is good; or the end that is not what it was said to be."""
    safety_bookmark: str
    """Was made before anything else."""
    log: str
    write: HuntWrite | None
    write_problem: str
    """Why the write that was asked for is not there; ""."""
