"""Symlinks and pipes in a repository, planted before it is opened or swapped in while it is in use: nothing outside is
read, written or made, nothing waits, and what cannot be done is said.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vsnapfs.core.errors import IntegrityError, VsnapfsError
from vsnapfs.repository.layout import Layout
from vsnapfs.repository.repository import Repository

SEGMENT = "journal/00000000000000000001.seg"
NAMES = {
    "repository.json": True,
    "vsnapfs.toml": True,
    SEGMENT: True,
    "lock": False,
    "catalog.db": False,
    "catalog.db-wal": False,
    "vsnapfs.sock": False,
    "primary/00000001.img": False,
    "base/00000002.img": False,
    "base/00000002.idx": False,
}
"""True: without it nothing can be opened."""

DIRECTORIES = ("journal", "maps", "base", "primary")
IMAGE_BYTES = 65536
OPENED_S_MAX = 60.0


@pytest.fixture
def used(path: Path, memory_path: Path) -> Path:
    """A repository with a thin volume, one with a base, and a bookmark."""
    image = memory_path / "image"
    image.write_bytes(b"i" * IMAGE_BYTES)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("thin", size_bytes=IMAGE_BYTES)
        repository.volume_add("based", primary=image)
        repository.bookmark_add("a")
    return path


class Outside:
    """A place beside the repository that must stay as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        (path / "canary").write_bytes(b"c" * IMAGE_BYTES)

    def take(self, entry: Path) -> Path:
        """Put a copy of a file or directory here, so that whoever follows a symlink to it finds what it looks for."""
        target = self.path / entry.name
        if entry.is_dir():
            target.mkdir()
            for below in entry.iterdir():
                (target / below.name).write_bytes(below.read_bytes())
        elif entry.exists():
            target.write_bytes(entry.read_bytes())
        return target

    def content(self) -> dict[str, bytes]:
        files = [path for path in self.path.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.path)): path.read_bytes() for path in files}


@pytest.fixture
def outside(memory_path: Path) -> Outside:
    return Outside(memory_path / "outside")


def plant(entry: Path, target: Path) -> None:
    """A symlink to ``target`` in the place of a file or directory, which is kept beside the repository."""
    if entry.exists():
        top = next(parent for parent in entry.parents if parent.name == "repository")
        entry.rename(top.with_name(f"kept-{entry.name}"))
    entry.symlink_to(target)


def use(path: Path, *, owner: bool) -> None:
    """Open, and do a bit of everything. Raises: VsnapfsError: something could not be done."""
    with Repository.open(path, owner=owner) as repository:
        use_open(repository)


def refusal_of(doing: Callable[[], object]) -> VsnapfsError | None:
    """How it was refused, if it was."""
    try:
        doing()
    except VsnapfsError as error:
        return error
    return None


def use_open(repository: Repository) -> None:
    point = repository.resolve("a")
    repository.status()
    repository.check(read_data=True)
    for volume in ("thin", "based"):
        with repository.view(volume, point) as view:
            view.read(0, 4096)
    if repository.owner:
        repository.bookmark_add("b")
        repository.volume_resize("thin", 2 * IMAGE_BYTES)
        repository.volume_add("more", size_bytes=IMAGE_BYTES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("owner", [True, False])
def test_a_symlink_planted_before(used: Path, outside: Outside, name: str, owner: bool) -> None:
    target = outside.take(used / name)
    before = outside.content()
    plant(used / name, target)
    if NAMES[name]:
        with pytest.raises(IntegrityError) as caught:
            Repository.open(used, owner=owner)
        assert caught.value.exit_status == 6
    else:
        refused = refusal_of(lambda: use(used, owner=owner))
        assert refused is None or refused.exit_status in (6, 8), refused
    assert outside.content() == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("owner", [True, False])
def test_a_symlink_to_nothing_makes_nothing(used: Path, outside: Outside, name: str, owner: bool) -> None:
    before = outside.content()
    plant(used / name, outside.path / "made")
    refused = refusal_of(lambda: use(used, owner=owner))
    assert refused is None or refused.exit_status in (6, 8), refused
    assert outside.content() == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.timeout(60)
def test_nobody_waits_for_a_pipe(used: Path, name: str, owner: bool) -> None:
    if (used / name).exists():
        (used / name).unlink()
    os.mkfifo(used / name)
    refused = refusal_of(lambda: use(used, owner=owner))
    assert refused is not None or not NAMES[name]
    assert refused is None or refused.exit_status in (6, 8), refused


@pytest.mark.parametrize("directory", DIRECTORIES)
@pytest.mark.parametrize("owner", [True, False])
def test_a_directory_swapped_while_it_is_in_use(used: Path, outside: Outside, directory: str, owner: bool) -> None:
    """Whatever was open stays what it was; nothing new is opened, made, renamed or removed beyond the symlink."""
    repository = Repository.open(used, owner=owner)
    try:
        target = outside.take(used / directory)
        before = outside.content()
        plant(used / directory, target)
        for doing in doings(repository):
            refused = refusal_of(doing)
            assert refused is None or refused.exit_status in (1, 5, 6, 8), refused
        assert outside.content() == before
    finally:
        refusal_of(repository.close)
    assert outside.content() == before


def doings(repository: Repository) -> Iterator[Callable[[], object]]:
    point = repository.resolve("a")
    yield repository.status
    yield lambda: repository.check(read_data=True)
    yield lambda: repository.view("based", point).close()
    if repository.owner:
        yield lambda: repository.bookmark_add("b")
        yield lambda: repository.volume_add("more", size_bytes=IMAGE_BYTES)
        yield lambda: repository.volume_remove("thin")
        yield lambda: repository.check(repair=True)
    else:
        yield repository.refresh


def test_swaps_in_the_middle_of_a_path(used: Path, outside: Outside) -> None:
    """Another thread swaps a directory for a symlink and back, without end: what is opened is the repository's or nothing."""
    stop = threading.Event()
    real, link, place = used / "kept", used / "link", used / "primary"
    (outside.path / "00000001.img").write_bytes(b"o")
    link.symlink_to(outside.path)

    def swap() -> None:
        while not stop.is_set():
            place.rename(real)
            link.rename(place)
            place.rename(link)
            real.rename(place)

    before = outside.content()
    layout = Layout(used)
    swapper = threading.Thread(target=swap)
    swapper.start()
    opened = 0
    end = time.monotonic() + OPENED_S_MAX
    try:
        for number in itertools.count():
            if number >= 3000 and (opened or time.monotonic() > end):
                break
            try:
                fd = layout.open("primary/00000001.img", os.O_RDONLY)
                opened += 1
                assert os.fstat(fd).st_size == IMAGE_BYTES
                os.close(fd)
                layout.write(f"primary/{number}", b"ours")
                layout.remove(f"primary/{number}")
            except VsnapfsError:
                """It was a symlink at that moment, or nothing."""
    finally:
        stop.set()
        swapper.join()
        layout.close()
    assert opened > 0
    assert outside.content() == before
