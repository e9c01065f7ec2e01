"""Images onto the volumes of a branch: only what differs is written, so a branch takes no more room than that."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from vsnapfs.binding import Store
from vsnapfs.core.errors import from_os_error
from vsnapfs.core.state import Progress
from vsnapfs.repository.bring import bring, everything
from vsnapfs.repository.file_target import FileTarget
from vsnapfs.repository.sources import FileSource

Report = Callable[[Progress], None]


def onto_branch(images: Mapping[str, Path], volumes: Mapping[str, Path], report: Report) -> int:
    """Bring each volume, a file of the mount, to its image, which has its size. Returns: the bytes written, read back and compared.

    Raises: StoreError, NoSpaceError: the branch's quota; IntegrityError: it does not read back. Again, it writes what still differs.
    """
    written = 0
    for name in sorted(images):
        with ExitStack() as stack:
            source_fd = _opened(images[name], os.O_RDONLY, stack)
            target_fd = _opened(volumes[name], os.O_RDWR | os.O_NOFOLLOW, stack)
            directory_fd = _opened(images[name].parent, os.O_RDONLY | os.O_DIRECTORY, stack)
            store = Store(directory_fd)
            stack.callback(store.close)
            size_bytes = os.fstat(source_fd).st_size
            source = FileSource(source_fd, size_bytes, str(images[name]))
            target = FileTarget(store, target_fd, size_bytes, str(volumes[name]))
            spans = everything(source, target.held())
            written += bring(source, target, spans, _Watch(name, size_bytes, report), verify=True)
    return written


def _opened(path: Path, flags: int, stack: ExitStack) -> int:
    try:
        fd = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, f"open {path}") from error
    stack.callback(os.close, fd)
    return fd


class _Watch:
    """See bring.Watch."""

    def __init__(self, name: str, size_bytes: int, report: Report) -> None:
        self._what, self._size_bytes, self._report = f"{name} onto the branch", size_bytes, report

    def at(self, done: int) -> None:
        self._report(Progress(what=self._what, done=done, total=self._size_bytes))

    def settled(self, done: int) -> None:
        """Done again, it compares."""
