"""Images and histories of filesystems, and what attaching has left of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.ground import MIB, serving
from tests.support.devices import loop_device, mounted, sh
from tests.support.processes import Mounted, make_repository, must, must_json

KINDS = ["ext4", "xfs", "btrfs"]
SIZES = {"ext4": 32 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB}
MAKE = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}


def make_image(place: Path, kind: str, files: dict[str, str]) -> Path:
    """A filesystem with these files, unmounted."""
    image = place / f"{kind}.img"
    with image.open("wb") as file:
        file.truncate(SIZES[kind])
    sh(*MAKE[kind], image)
    with loop_device(image) as device, mounted(device, place / "filling") as directory:
        for name, content in files.items():
            (directory / name).write_text(content)
    (place / "filling").rmdir()
    return image


def synced(path: Path, content: str) -> None:
    with path.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


class History:
    """A volume ``disk`` with a filesystem and a server: bookmark ``clean`` has the file one, ``dirty`` was made while
    two had been synced and nothing else, ``later`` has three."""

    def __init__(self, kind: str, server: Mounted) -> None:
        self.kind = kind
        self.repository = server.repository
        self.mountpoint = server.mountpoint

    def attach(self, point: str, directory: Path, *options: str | Path) -> Any:
        return must_json(self.repository, "attach", point, "disk", directory, *options)

    def detach(self, *words: str | Path) -> Any:
        return must_json(self.repository, "detach", *words)["detached"]

    def listed(self) -> list[Any]:
        found: list[Any] = must_json(self.repository, "attach", "list")["attached"]
        return found


@contextmanager
def history_of(kind: str, place: Path, settings: str = "") -> Iterator[History]:
    repository = make_repository(place / "repository", disk=SIZES[kind])
    (repository / "vsnapfs.toml").write_text(settings)
    with serving(repository, place / "mount") as server:
        with loop_device(server.mountpoint / "live/disk") as device:
            sh(*MAKE[kind], device)
            with mounted(device, place / "disk") as directory:
                synced(directory / "one", "1")
            must(repository, "bookmark", "add", "clean")
            with mounted(device, place / "disk") as directory:
                synced(directory / "two", "2")
                must(repository, "bookmark", "add", "dirty")
                synced(directory / "three", "3")
            must(repository, "bookmark", "add", "later")
        yield History(kind, server)


def names(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name != "lost+found")
