"""What the plane counted, as ``status`` tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vsnapfs.core.model import Volume
from vsnapfs.core.state import Latency, OpenFile, RequestCount
from vsnapfs.daemon.opcodes import name_of
from vsnapfs.tree.nodes import BranchFile, LiveFile, ViewFile, VolumeNode

if TYPE_CHECKING:
    from vsnapfs.binding import PlaneCount

GONE = ""
"""Name of a live volume that was removed and is still open."""


def requests_by_name(counts: Mapping[int, PlaneCount]) -> dict[str, RequestCount]:
    """By FUSE opcode; the busiest first."""
    busiest = sorted(counts.items(), key=lambda item: -item[1].requests)
    return {name_of(opcode): _count(count) for opcode, count in busiest}


def _count(count: PlaneCount) -> RequestCount:
    return RequestCount(
        requests=count.requests,
        errors=count.errors,
        bytes=count.bytes,
        nanoseconds=count.nanoseconds,
        latency=Latency.of(count.latency),
    )


def open_files(found: Iterable[tuple[int, VolumeNode, PlaneCount]], volumes: Iterable[Volume]) -> list[OpenFile]:
    """found: handle, what it is of, what was asked of it. volumes: those that are there now. The busiest first."""
    names = {volume.id: volume.name for volume in volumes}
    files = [_open_file(handle, node, count, names) for handle, node, count in found]
    return sorted(files, key=lambda file: (-file.requests, file.handle))


def _open_file(handle: int, node: VolumeNode, count: PlaneCount, names: Mapping[int, str]) -> OpenFile:
    return OpenFile(
        handle=handle,
        volume=names.get(node.volume_id, GONE) if isinstance(node, LiveFile) else node.volume.name,
        live=isinstance(node, LiveFile),
        point=node.point if isinstance(node, ViewFile) else None,
        branch=node.place.name if isinstance(node, BranchFile) else None,
        requests=count.requests,
        errors=count.errors,
        bytes=count.bytes,
        nanoseconds=count.nanoseconds,
        latency=Latency.of(count.latency),
    )
