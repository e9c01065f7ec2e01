"""The only user of the C library: one module per C header, typed, each call 1:1.

Every call releases the interpreter lock and may block on storage: run it in a worker thread where that matters. Errors are
raised as classes of ``vsnapfs.core.errors`` with what the core's fault says. Objects that own C memory have ``close()`` and are
context managers; nothing is left to garbage collection.

Source: native/include/*.h.
"""

from vsnapfs.binding.base import BaseBuilder
from vsnapfs.binding.closing import Closing
from vsnapfs.binding.faults import Fault
from vsnapfs.binding.journal import (
    Event,
    Journal,
    JournalFacts,
    RecordKind,
    RecordPiece,
)
from vsnapfs.binding.kernel_view import KernelViews, Limits
from vsnapfs.binding.plane import Plane, PlaneCount
from vsnapfs.binding.store import Store
from vsnapfs.binding.view import Run, RunKind, View, VolumeFile, VolumeState

__all__ = [
    "BaseBuilder",
    "Closing",
    "Event",
    "Fault",
    "Journal",
    "JournalFacts",
    "KernelViews",
    "Limits",
    "Plane",
    "PlaneCount",
    "RecordKind",
    "RecordPiece",
    "Run",
    "RunKind",
    "Store",
    "View",
    "VolumeFile",
    "VolumeState",
]
