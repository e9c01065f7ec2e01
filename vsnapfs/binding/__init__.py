"""The only user of the C library: one module per C header, typed, each call 1:1.

Every call releases the interpreter lock and may block on storage: run it in a worker thread where that matters. Errors are
raised as classes of ``vsnapfs.core.errors`` with what the core's fault says. Objects that own C memory have ``close()`` and are
context managers; nothing is left to garbage collection.

Source: native/include/*.h.
"""

from vsnapfs.binding.base import BaseBuilder
from vsnapfs.binding.base_move import BaseMoveFacts
from vsnapfs.binding.beneath import open_beneath
from vsnapfs.binding.branch import Branch, BranchFacts
from vsnapfs.binding.checksum import CRC_BYTES, chunk_crcs
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import Fault
from vsnapfs.binding.hold import HOLD_MS_DEFAULT, HOLD_MS_MAX, HoldPosition, hold, holds_end, let_go
from vsnapfs.binding.journal import (
    Event,
    Journal,
    JournalFacts,
    RecordKind,
    RecordPiece,
    Request,
    SegmentFacts,
)
from vsnapfs.binding.keep import Keep
from vsnapfs.binding.kernel_view import KernelViews, Limits
from vsnapfs.binding.memory import Protection, protect_memory
from vsnapfs.binding.plane import KeptFile, Plane, PlaneCount, Transport, detach, mount, mounted_at, resumable
from vsnapfs.binding.priority import io_idle
from vsnapfs.binding.replay import Replay, ReplayPiece
from vsnapfs.binding.store import Store
from vsnapfs.binding.view import Run, RunKind, View, VolumeFile, VolumeState

__all__ = [
    "CRC_BYTES",
    "HOLD_MS_DEFAULT",
    "HOLD_MS_MAX",
    "BaseBuilder",
    "BaseMoveFacts",
    "Branch",
    "BranchFacts",
    "Closing",
    "Event",
    "Fault",
    "HoldPosition",
    "Journal",
    "JournalFacts",
    "Keep",
    "KeptFile",
    "KernelViews",
    "Limits",
    "Plane",
    "PlaneCount",
    "Protection",
    "RecordKind",
    "RecordPiece",
    "Replay",
    "ReplayPiece",
    "Request",
    "Run",
    "RunKind",
    "SegmentFacts",
    "Store",
    "Transport",
    "View",
    "VolumeFile",
    "VolumeState",
    "chunk_crcs",
    "detach",
    "hold",
    "holds_end",
    "io_idle",
    "let_go",
    "mount",
    "mounted_at",
    "open_beneath",
    "protect_memory",
    "resumable",
]
