"""The command line while calls on files of the repository fail: an exit status and one line, or the right result; and nothing
that was acknowledged is lost.

Every call of each command fails with EIO once, and from some calls on all do, as on a disk that is gone or full. Then, without
faults, the repository opens, its old bookmark reads as it did, and what was answered with success is there.
"""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.fault_commands import FaultyCommands, Ran, build
from tests.support.volumes import content_at
from vsnapfs.core.errors import NotFoundError, VsnapfsError
from vsnapfs.repository.repository import Repository

BLOCK = 4096
POINTS_MAX = 30
"""Of each command and mode. What has more calls is sampled evenly, the first and the last included."""
FOR_GOOD = 1 << 20
INTEGRITY = 6

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(5 * BLOCK) + bytes(3 * BLOCK)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyCommands]:
    with FaultyCommands(build(tmp_path_factory.mktemp("shim"))) as commands:
        yield commands


@pytest.fixture
def template(memory_path: Path) -> Path:
    """A repository with the volume ``db`` and the bookmark ``old``."""
    path, image = memory_path / "template", memory_path / "image"
    Repository.create(path)
    with Repository.open(path, owner=True) as repository:
        image.write_bytes(content(1))
        repository.import_images({"db": image}, "old")
    image.write_bytes(content(2))
    return path


def points(calls: int) -> list[int]:
    """Call numbers to try of so many."""
    if calls <= POINTS_MAX:
        return list(range(calls))
    return sorted({number * (calls - 1) // (POINTS_MAX - 1) for number in range(POINTS_MAX)})


def assert_said(ran: Ran, where: str) -> None:
    """As docs/command.md promises of any failure. What a check finds is its result."""
    assert 0 <= ran.status <= 10, f"{where}: {ran}"
    assert "Traceback" not in ran.stderr, f"{where}: {ran.stderr}"
    if ran.status != 0 and not (ran.status == INTEGRITY and "1 damaged" in ran.stdout):
        lines = ran.stderr.splitlines()
        assert lines, f"{where}: {ran}"
        assert lines[-1].startswith("vsnapfs: "), f"{where}: {ran}"
        assert len([line for line in lines if line.startswith("vsnapfs: ")]) == 1, f"{where}: {ran}"


def assert_kept(path: Path, where: str) -> None:
    """What stood before is there, for a reader and an owner."""
    for owner in (False, True):
        try:
            with Repository.open(path, owner=owner) as repository:
                assert content_at(repository, "db", "old") == content(1), where
                assert repository.check(read_data=True).damages == [], where
        except VsnapfsError as error:
            raise AssertionError(f"{where}: it does not open afterwards: {error}") from error


Verify = Callable[[Path, Ran, str], None]


def sweep(commands: FaultyCommands, template: Path, verify: Verify, *args: str | Path) -> int:
    """Try a command with each fault; returns how many there were."""
    place = template.with_name("place")
    tried = 0

    def once(call: int, count: int, error: int) -> Ran:
        shutil.rmtree(place, ignore_errors=True)
        if template.exists():
            shutil.copytree(template, place)
        return commands.run(place, call, count, error, *args)

    clean = once(FOR_GOOD, 0, 0)
    assert (clean.status, clean.struck) == (0, ""), clean
    for count, error in ((1, errno.EIO), (FOR_GOOD, errno.ENOSPC)):
        for call in points(clean.calls):
            ran = once(call, count, error)
            where = f"{' '.join(map(str, args))}, call {call} ({ran.struck}) of {clean.calls}, {count} times"
            assert_said(ran, where)
            verify(place, ran, where)
            tried += bool(ran.struck)
    assert tried > 10
    return tried


def repository_option(template: Path) -> tuple[str, str]:
    return "--repo", str(template.with_name("place"))


def test_init(commands: FaultyCommands, memory_path: Path) -> None:
    """What could not be made is not there, and can be made; or somebody says what stands in the way."""

    def verify(path: Path, ran: Ran, where: str) -> None:
        if ran.status == 0:
            with Repository.open(path, owner=True) as repository:
                assert repository.bookmarks() == [], where
            return
        with suppress(VsnapfsError), Repository.open(path, owner=True):
            return
        shutil.rmtree(path, ignore_errors=True)  # "is not empty" is an answer
        Repository.create(path)

    sweep(commands, memory_path / "none", verify, *repository_option(memory_path / "none"), "init")


def test_volume_add(commands: FaultyCommands, template: Path) -> None:
    def verify(path: Path, ran: Ran, where: str) -> None:
        assert_kept(path, where)
        with Repository.open(path, owner=True) as repository:
            names = {volume.name for volume in repository.volumes()}
            assert ran.status != 0 or "more" in names, where
            if "more" not in names:
                repository.volume_add("more", size_bytes=1 << 20)

    sweep(commands, template, verify, *repository_option(template), "volume", "add", "more", "--size", "1M")


def test_bookmark_add(commands: FaultyCommands, template: Path) -> None:
    def verify(path: Path, ran: Ran, where: str) -> None:
        assert_kept(path, where)
        with Repository.open(path, owner=False) as repository:
            names = [bookmark.name for bookmark in repository.bookmarks()]
        assert names in (["old", "new"], ["old"]), where
        assert ran.status != 0 or "new" in names, where

    sweep(commands, template, verify, *repository_option(template), "bookmark", "add", "new")


def test_import(commands: FaultyCommands, template: Path) -> None:
    def verify(path: Path, ran: Ran, where: str) -> None:
        assert_kept(path, where)
        with Repository.open(path, owner=False) as repository:
            try:
                found: bytes | None = content_at(repository, "db", "new")
            except NotFoundError:
                found = None
        assert found == content(2) if ran.status == 0 else found in (None, content(2)), where

    image = template.with_name("image")
    sweep(commands, template, verify, *repository_option(template), "import", f"db={image}", "--bookmark", "new")


def test_export(commands: FaultyCommands, template: Path) -> None:
    target = template.with_name("exported")

    def verify(path: Path, ran: Ran, where: str) -> None:
        assert_kept(path, where)
        if ran.status == 0:
            assert target.read_bytes() == content(1), where
        target.unlink(missing_ok=True)

    sweep(commands, template, verify, *repository_option(template), "export", "old", "db", "--to", target, "--force")


def test_check_and_repair(commands: FaultyCommands, template: Path) -> None:
    """Nothing is wrong with it, and nothing that fails makes it so."""

    def verify(path: Path, ran: Ran, where: str) -> None:
        assert_kept(path, where)
        assert list(path.glob("journal/*.bad")) == [], where

    sweep(commands, template, verify, *repository_option(template), "check", "--read-data", "--repair")
