"""Where an export goes: what is refused before the first byte, and what is left when it fails."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.devices import loop_device, mounted
from tests.support.imported import imported
from vsnapfs.core.errors import (
    BusyError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    UsageError,
    VsnapfsError,
)
from vsnapfs.core.state import Progress
from vsnapfs.daemon import export as export_module
from vsnapfs.daemon import targets
from vsnapfs.daemon.client import Client
from vsnapfs.daemon.export import Export, export

pytestmark = pytest.mark.unit
MIB = 1 << 20
CONTENT = os.urandom(MIB) + bytes(2 * MIB) + os.urandom(MIB)
NEWER = CONTENT[:MIB] + os.urandom(4096) + CONTENT[MIB + 4096 :]
A = Export(point="a", volume="db")


def ignore(_: Progress) -> None:
    pass


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A repository whose volume ``db`` was CONTENT at bookmark a and is NEWER at b."""
    return imported(tmp_path_factory.mktemp("export"), {"a": CONTENT, "b": NEWER})


def test_a_new_file_is_the_volume_private_and_sparse(client: Client, tmp_path: Path) -> None:
    done = export(client, A, tmp_path / "out", ignore)
    found = (tmp_path / "out").stat()
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_blocks * 512 < 3 * MIB
    assert os.listdir(tmp_path) == ["out"]
    assert (done.volume, done.point.bookmark, done.since, done.to) == ("db", "a", None, str(tmp_path / "out"))
    assert done.size_bytes == len(CONTENT)


def test_changes_only(client: Client, tmp_path: Path) -> None:
    done = export(client, Export(point="b", volume="db", since="a"), tmp_path / "out.tar", ignore)
    assert done.since is not None
    assert done.since.bookmark == "a"
    with tarfile.open(tmp_path / "out.tar") as tar:
        extents = tar.extractfile("db.extents")
        assert extents is not None
        assert extents.read() == NEWER[MIB : MIB + 4096]


def test_progress_is_reported(client: Client, tmp_path: Path) -> None:
    seen: list[Progress] = []
    export(client, A, tmp_path / "out", seen.append)
    assert (seen[-1].done, seen[-1].total) == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("wanted", [Export(point="aa", volume="db"), Export(point="a", volume="dbb")])
def test_what_is_not_there_leaves_no_file(client: Client, tmp_path: Path, wanted: Export) -> None:
    with pytest.raises(NotFoundError, match="did you mean"):
        export(client, wanted, tmp_path / "out", ignore)
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_refused_and_kept(client: Client, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NameTakenError, match="out exists already; --force"):
        export(client, A, tmp_path / "out", ignore)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"out": "mine"}


def test_force_replaces_it_when_the_new_one_is_complete(client: Client, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    (tmp_path / "out.partial").write_bytes(bytes(9 * MIB))
    export(client, A, tmp_path / "out", ignore, force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": CONTENT}


def test_the_partial_file_of_an_earlier_try_is_refused_and_kept(client: Client, tmp_path: Path) -> None:
    (tmp_path / "out.partial").write_text("half")
    with pytest.raises(NameTakenError, match=r"out\.partial is there, from an earlier try"):
        export(client, A, tmp_path / "out", ignore)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"out.partial": "half"}


def test_a_file_that_comes_meanwhile_is_kept(client: Client, tmp_path: Path) -> None:
    def race(progress: Progress) -> None:
        (tmp_path / "out").write_text("theirs")

    with pytest.raises(NameTakenError, match=r"what was written is in .*out\.partial"):
        export(client, A, tmp_path / "out", race)
    assert (tmp_path / "out").read_text() == "theirs"
    assert (tmp_path / "out.partial").read_bytes() == CONTENT


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_on_a_filesystem_without_links(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **_options: object) -> None:
        raise OSError(code, "no links")

    monkeypatch.setattr(os, "link", refuse)
    export(client, A, tmp_path / "out", ignore)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": CONTENT}
    (tmp_path / "late").touch()
    directory_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(NameTakenError):
        targets.rename_to_free_name(directory_fd, "out", tmp_path / "late")
    os.close(directory_fd)


def test_an_interrupted_export_leaves_the_partial_file(client: Client, tmp_path: Path) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(client, A, tmp_path / "out", interrupt)
    assert os.listdir(tmp_path) == ["out.partial"]


@pytest.mark.parametrize(("force", "error"), [(False, NameTakenError), (True, PermissionDeniedError)])
def test_a_symlink_is_not_followed(client: Client, tmp_path: Path, force: bool, error: type[VsnapfsError]) -> None:
    (tmp_path / "far").write_text("mine")
    (tmp_path / "out").symlink_to("far")
    with pytest.raises(error):
        export(client, A, tmp_path / "out", ignore, force=force)
    assert (tmp_path / "far").read_text() == "mine"


def test_a_symlink_in_place_of_the_partial_file_is_not_followed(client: Client, tmp_path: Path) -> None:
    (tmp_path / "far").write_text("mine")
    (tmp_path / "out.partial").symlink_to("far")
    with pytest.raises(StoreError, match="Too many levels of symbolic links"):
        export(client, A, tmp_path / "out", ignore, force=True)
    assert (tmp_path / "far").read_text() == "mine"


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_that_is_swapped_meanwhile_is_not_followed(client: Client, tmp_path: Path, force: bool) -> None:
    place, kept, far = tmp_path / "place", tmp_path / "kept", tmp_path / "far"
    place.mkdir()
    far.mkdir()
    (far / "out").write_text("mine")

    def swap(_: Progress) -> None:
        if not kept.exists():
            place.rename(kept)
            place.symlink_to(far)

    export(client, A, place / "out", swap, force=force)
    assert os.listdir(kept) == ["out"]
    assert (kept / "out").read_bytes() == CONTENT
    assert os.listdir(far) == ["out"]
    assert (far / "out").read_text() == "mine"


@pytest.mark.timeout(60)
def test_nobody_waits_for_a_pipe_in_place_of_the_partial_file(client: Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.partial")
    for force in (False, True):
        with pytest.raises(VsnapfsError, match=r"out\.partial"):
            export(client, A, tmp_path / "out", ignore, force=force)
    assert os.listdir(tmp_path) == ["out.partial"]


def test_a_directory_is_no_target(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        export(client, A, tmp_path, ignore, force=True)


def test_a_missing_directory(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file"):
        export(client, A, tmp_path / "nix" / "out", ignore)


def test_a_closed_pipe(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(export_module, "STDOUT_FD", write)
    try:
        with pytest.raises(StoreError, match="Broken pipe"):
            export(client, A, None, ignore)
    finally:
        os.close(write)


def test_standard_output_that_is_a_terminal(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, terminal = os.openpty()
    monkeypatch.setattr(export_module, "STDOUT_FD", terminal)
    try:
        with pytest.raises(UsageError, match="is a terminal"):
            export(client, A, None, ignore)
    finally:
        os.close(terminal)
        os.close(keeper)


def test_a_character_device_needs_force(client: Client) -> None:
    with pytest.raises(NameTakenError):
        export(client, A, Path("/dev/null"), ignore)
    assert export(client, A, Path("/dev/null"), ignore, force=True).to == "/dev/null"


@pytest.mark.requires_root
class TestWithRoot:
    """Targets that only root can make."""

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[Path]:
        (tmp_path / "disk").write_bytes(b"\xff" * len(CONTENT))
        with loop_device(tmp_path / "disk") as device:
            yield device

    def test_a_full_disk(self, client: Client, tmp_path: Path) -> None:
        with mounted(Path("tmpfs"), tmp_path / "small", options="size=1m", kind="tmpfs") as small:
            with pytest.raises(NoSpaceError, match=r"No space left.*; what was written is in .*out\.partial$"):
                export(client, A, small / "out", ignore)
            assert os.listdir(small) == ["out.partial"]

    def test_a_block_device_is_written_in_place_zeros_too(self, client: Client, device: Path) -> None:
        with pytest.raises(NameTakenError):
            export(client, A, device, ignore)
        export(client, A, device, ignore, force=True)
        assert device.read_bytes() == CONTENT

    def test_a_block_device_that_is_too_small(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "disk").write_bytes(b"\xff" * MIB)
        with loop_device(tmp_path / "disk") as device:
            with pytest.raises(NoSpaceError, match="has 1048576 bytes, the volume 4194304"):
                export(client, A, device, ignore, force=True)
            assert device.read_bytes() == b"\xff" * MIB

    def test_a_block_device_in_use(self, client: Client, device: Path) -> None:
        held = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            with pytest.raises(BusyError):
                export(client, A, device, ignore, force=True)
        finally:
            os.close(held)
