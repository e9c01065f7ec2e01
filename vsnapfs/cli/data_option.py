"""``--data``, of what mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsnapfs.core.model import DataMode

MODES: tuple[DataMode, ...] = ("verify", "kernel", "auto")
HELP = "Who reads points: vsnapfs, comparing every block, or the kernel; default: the settings."
