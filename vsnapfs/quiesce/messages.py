"""What the freezer and whoever asks it say to each other: one JSON object a packet, over a socket pair.

    asker                       freezer
    Job ──────────────────────▶
                              ◀── Phase, Remark … ── Frozen     all are still
    (the mark)
    Thaw ─────────────────────▶
                              ◀── Ended

Ended comes without Frozen when somebody could not be made still, and without Thaw at the deadline. The end of the line, on
either side, is the other's death.
"""

from __future__ import annotations

import socket
from typing import Any, TypeAlias

import msgspec

from vsnapfs.core.model import MemberOutcome, QuiescePhase
from vsnapfs.policy.profiles import Profile
from vsnapfs.quiesce.ground import Ground
from vsnapfs.quiesce.member import Occasion

MESSAGE_BYTES_MAX = 1 << 18


class Job(msgspec.Struct, tag="job"):
    profile: Profile
    occasion: Occasion
    grounds: list[Ground]


class Thaw(msgspec.Struct, tag="thaw"):
    """The mark is made; or nobody wants one any more."""


class Phase(msgspec.Struct, tag="phase"):
    phase: QuiescePhase


class Remark(msgspec.Struct, tag="remark"):
    """Odd, and no failure."""

    text: str


class Frozen(msgspec.Struct, tag="frozen"):
    """All are still, until Thaw or the deadline."""

    members: tuple[MemberOutcome, ...]


class Ended(msgspec.Struct, tag="ended"):
    """All were told to thaw, and have done so or did not do it in their time. error: as core.errors.to_object; None: all were
    still from Frozen until Thaw came."""

    members: tuple[MemberOutcome, ...]
    error: dict[str, Any] | None


FromAsker: TypeAlias = Job | Thaw
FromFreezer: TypeAlias = Phase | Remark | Frozen | Ended


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a line."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MESSAGE_BYTES_MAX)
    return ends


def send(line: socket.socket, message: FromAsker | FromFreezer) -> None:
    """Raises: OSError: nobody is at the other end, or nobody who reads: nobody waits for that."""
    line.send(msgspec.json.encode(message), socket.MSG_DONTWAIT)


def receive(line: socket.socket) -> bytes:
    """One packet; empty: nobody is at the other end any more."""
    try:
        return line.recv(MESSAGE_BYTES_MAX)
    except ConnectionError:
        return b""
