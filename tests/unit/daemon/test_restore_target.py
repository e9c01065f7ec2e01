"""Where a restore goes: what is refused before the first byte, what is left when it fails, and how it goes on."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.devices import loop_device, mounted, sh
from tests.support.imported import imported
from vsnapfs.core.errors import (
    BusyError,
    FormatUnknownError,
    IntegrityError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
    VsnapfsError,
)
from vsnapfs.core.state import Progress
from vsnapfs.daemon import requests as ask
from vsnapfs.daemon.client import Client
from vsnapfs.daemon.restore import Restored, Wanted, restore
from vsnapfs.mounts import table
from vsnapfs.repository import bring as bring_module
from vsnapfs.repository.file_target import FileTarget

pytestmark = pytest.mark.unit
MIB = 1 << 20
BLOCK = 4096
SIZE = 8 * MIB
CONTENT = os.urandom(3 * MIB) + bytes(3 * MIB) + os.urandom(2 * MIB)
NEWER = CONTENT[:MIB] + os.urandom(BLOCK) + CONTENT[MIB + BLOCK :]
A, B = Wanted("a", "db"), Wanted("b", "db")


def ignore(_: Progress) -> None:
    pass


class Killed(BaseException):
    """As if the process had been: nothing of ours tidies up after it but the kernel."""


def killed_at(offset_bytes: int) -> Any:
    def report(progress: Progress) -> None:
        if progress.done >= offset_bytes:
            raise Killed

    return report


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A repository whose volume ``db`` was CONTENT at bookmark a and is NEWER at b."""
    return imported(tmp_path_factory.mktemp("restore"), {"a": CONTENT, "b": NEWER})


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settled after each piece."""
    monkeypatch.setattr(bring_module, "SETTLE_BYTES", MIB)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A directory for targets alone."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place/db.img"


def names(target: Path) -> list[str]:
    return sorted(os.listdir(target.parent))


def state_of(target: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(target.with_name("db.img.vsnapfs-restore").read_bytes())
    return found


def left_in_the_middle(client: Client, target: Path, wanted: Wanted = A, *, force: bool = False) -> None:
    """A restore that was killed after 2 MiB."""
    with pytest.raises(Killed):
        restore(client, wanted, target, killed_at(2 * MIB), force=force)


class TestANewFile:
    def test_is_the_volume_private_and_sparse(self, client: Client, target: Path) -> None:
        done = restore(client, A, target, ignore)
        found = target.stat()
        assert target.read_bytes() == CONTENT
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_blocks * 512 == 5 * MIB
        assert names(target) == ["db.img"]
        assert (done.volume, done.source, done.point.bookmark) == ("db", f"@{done.point.seqno}", "a")
        assert (done.written_bytes, done.resumed_bytes, done.verified) == (5 * MIB, 0, True)

    def test_progress_is_reported(self, client: Client, target: Path) -> None:
        seen: list[Progress] = []
        restore(client, A, target, seen.append)
        assert (seen[-1].done, seen[-1].total, seen[-1].what) == (SIZE, SIZE, "restore of db")

    @pytest.mark.parametrize("wanted", [Wanted("aa", "db"), Wanted("a", "dbb")])
    def test_of_what_is_not_there_is_not_made(self, client: Client, target: Path, wanted: Wanted) -> None:
        with pytest.raises(NotFoundError, match="did you mean"):
            restore(client, wanted, target, ignore)
        assert names(target) == []

    def test_in_a_directory_that_is_not_there(self, client: Client, target: Path) -> None:
        with pytest.raises(NotFoundError, match="No such file"):
            restore(client, A, target / "nix/out", ignore)

    def test_beside_the_partial_file_of_something_else(self, client: Client, target: Path) -> None:
        partial = target.with_name("db.img.partial")
        partial.write_text("mine")
        for resume in (False, True):
            with pytest.raises(NameTakenError, match=r"partial is there"):
                restore(client, A, target, ignore, resume=resume)
        assert partial.read_text() == "mine"
        assert names(target) == ["db.img.partial"]

    def test_when_another_came_meanwhile(self, client: Client, target: Path) -> None:
        def race(_: Progress) -> None:
            target.write_text("theirs")

        with pytest.raises(NameTakenError, match="exists already"):
            restore(client, A, target, race)
        assert target.read_text() == "theirs"


class TestWhatExists:
    def test_is_refused_without_force(self, client: Client, target: Path) -> None:
        target.write_text("mine")
        with pytest.raises(NameTakenError, match="exists already; --force"):
            restore(client, A, target, ignore)
        assert target.read_text() == "mine"
        assert names(target) == ["db.img"]

    @pytest.mark.parametrize("tail", [0, MIB, -MIB])
    def test_is_written_in_place_where_it_differs(self, client: Client, target: Path, tail: int) -> None:
        target.write_bytes(NEWER + bytes(tail) if tail >= 0 else NEWER[:tail])
        before = target.stat()
        done = restore(client, A, target, ignore, force=True)
        assert target.read_bytes() == CONTENT
        assert target.stat().st_ino == before.st_ino
        assert done.written_bytes == BLOCK + max(0, -tail)
        assert names(target) == ["db.img"]

    def test_becomes_sparse_where_the_volume_is(self, client: Client, target: Path) -> None:
        target.write_bytes(b"\xff" * SIZE)
        restore(client, A, target, ignore, force=True)
        assert target.read_bytes() == CONTENT
        assert target.stat().st_blocks * 512 == 5 * MIB

    def test_keeps_its_mode(self, client: Client, target: Path) -> None:
        target.write_bytes(NEWER)
        target.chmod(0o640)
        restore(client, A, target, ignore, force=True)
        assert stat.S_IMODE(target.stat().st_mode) == 0o640

    @pytest.mark.parametrize("force", [False, True])
    def test_a_symlink_is_not_followed(self, client: Client, target: Path, force: bool) -> None:
        target.with_name("far").write_text("mine")
        target.symlink_to("far")
        with pytest.raises(PermissionDeniedError, match=f"give the file itself, {target.with_name('far')}"):
            restore(client, A, target, ignore, force=force)
        assert target.with_name("far").read_text() == "mine"

    def test_a_directory_is_no_target(self, client: Client, target: Path) -> None:
        target.mkdir()
        with pytest.raises(UsageError, match="is a directory"):
            restore(client, A, target, ignore, force=True)

    @pytest.mark.timeout(60)
    def test_nobody_waits_for_a_pipe(self, client: Client, target: Path) -> None:
        os.mkfifo(target)
        with pytest.raises(UsageError, match="neither a regular file nor a block device"):
            restore(client, A, target, ignore, force=True)

    def test_that_somebody_has_locked(self, client: Client, target: Path) -> None:
        target.write_bytes(NEWER)
        with target.open("rb") as theirs:
            fcntl.flock(theirs, fcntl.LOCK_SH)
            with pytest.raises(BusyError, match="in use by another"):
                restore(client, A, target, ignore, force=True)
        assert target.read_bytes() == NEWER

    def test_that_somebody_has_open(self, client: Client, target: Path) -> None:
        target.write_bytes(NEWER)
        with target.open("rb"), pytest.raises(BusyError, match="is open in another program"):
            restore(client, A, target, ignore, force=True)
        assert target.read_bytes() == NEWER
        assert names(target) == ["db.img"]

    @pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs"])
    def test_on_a_filesystem_that_grants_no_leases(
        self, client: Client, target: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        """NFS refuses one whenever its server has not delegated the file: that says nothing of who has it open."""
        target.write_bytes(NEWER)
        with target.open("rb") as file:
            mount = table.entry_of_fd(file.fileno())
            assert mount is not None
            mounts = target.with_name("mountinfo")
            mounts.write_text(f"{mount.mount_id} 1 {mount.device} / /srv rw - {kind} server:/srv rw\n")
            monkeypatch.setattr(table, "MOUNTS", mounts)
            restore(client, A, target, ignore, force=True)
        assert target.read_bytes() == CONTENT


class TestTheRepositoryItself:
    @pytest.mark.parametrize("name", ["new", "vsnapfs.toml", "base/new"])
    def test_is_no_target(self, client: Client, tmp_path: Path, name: str) -> None:
        (tmp_path / "way").symlink_to(client.path)
        for top in (client.path, tmp_path / "way"):
            with pytest.raises(UsageError, match="lies in the repository"):
                restore(client, A, top / name, ignore, force=True)

    def test_nor_is_the_primary_of_a_volume(self, client: Client, target: Path) -> None:
        target.write_bytes(bytes(MIB))
        client.call(ask.VolumeAdd(name="outside", primary=str(target)))
        target.with_name("other").hardlink_to(target)
        try:
            for path in (target, target.with_name("other")):
                with pytest.raises(UsageError, match="is the primary of volume outside; --live"):
                    restore(client, A, path, ignore, force=True)
        finally:
            client.call(ask.VolumeRemove(name="outside"))

    @pytest.mark.requires_root
    def test_nor_a_device_that_lies_on_it(self, client: Client, tmp_path: Path) -> None:
        """Written past the splitter, by whatever way."""
        outside, mapped = tmp_path / "outside.img", tmp_path / "mapped.img"
        outside.write_bytes(bytes(SIZE))
        client.call(ask.VolumeAdd(name="outside", primary=str(outside)))
        try:
            with loop_device(outside) as device, loop_device(device) as above:
                for path in (device, above):
                    with pytest.raises(UsageError, match="the primary of volume outside; --live"):
                        restore(client, A, path, ignore, force=True)
            inside = next((client.path / "base").glob("*.img"), client.path / "vsnapfs.toml")
            with loop_device(inside) as device, pytest.raises(UsageError, match="in the repository"):
                restore(client, A, device, ignore, force=True)
            assert outside.read_bytes() == bytes(SIZE)
            mapped.write_bytes(bytes(SIZE))
            with loop_device(mapped) as device:
                restore(client, A, device, ignore, force=True)
        finally:
            client.call(ask.VolumeRemove(name="outside"))

    @pytest.mark.requires_root
    def test_by_another_path(self, client: Client, tmp_path: Path) -> None:
        with (
            mounted(client.path, tmp_path / "again", options="bind") as again,
            pytest.raises(UsageError, match="lies in the repository"),
        ):
            restore(client, A, again / "new", ignore)


@pytest.mark.usefixtures("often")
class TestBrokenOff:
    def test_it_goes_on_where_it_was(self, client: Client, target: Path) -> None:
        left_in_the_middle(client, target)
        assert names(target) == ["db.img.partial", "db.img.vsnapfs-restore"]
        assert state_of(target)["done_bytes"] == 2 * MIB
        done = restore(client, A, target, ignore, resume=True)
        assert target.read_bytes() == CONTENT
        assert done.resumed_bytes == 2 * MIB
        assert done.written_bytes == 3 * MIB
        assert names(target) == ["db.img"]

    def test_another_file_with_the_same_number(self, client: Client, target: Path) -> None:
        """A filesystem gives the number of a file that was removed to the next one: of that nothing is done."""
        target.write_bytes(NEWER)
        left_in_the_middle(client, target, force=True)
        number = target.stat().st_ino
        target.unlink()
        target.write_bytes(os.urandom(SIZE))
        if target.stat().st_ino != number:
            state = target.with_name("db.img.vsnapfs-restore")
            state.write_bytes(msgspec.json.encode(state_of(target) | {"inode": target.stat().st_ino}))
        if not state_of(target)["generation"]:
            pytest.skip("this filesystem does not tell one file from the next")
        with pytest.raises(NotFoundError, match="is not what"):
            restore(client, A, target, ignore, resume=True)

    def test_what_lies_before_is_not_looked_at_again(self, client: Client, target: Path) -> None:
        """It was read back already: that is what the state says."""
        left_in_the_middle(client, target)
        with target.with_name("db.img.partial").open("r+b") as partial:
            partial.write(b"damaged since")
        restore(client, A, target, ignore, resume=True)
        assert target.read_bytes() == b"damaged since" + CONTENT[13:]

    def test_in_place(self, client: Client, target: Path) -> None:
        target.write_bytes(os.urandom(SIZE))
        left_in_the_middle(client, target, force=True)
        assert names(target) == ["db.img", "db.img.vsnapfs-restore"]
        done = restore(client, A, target, ignore, resume=True)
        assert target.read_bytes() == CONTENT
        assert done.resumed_bytes == 2 * MIB
        assert names(target) == ["db.img"]

    @pytest.mark.parametrize("force", [False, True])
    def test_it_is_said_and_both_ways_out(self, client: Client, target: Path, force: bool) -> None:
        left_in_the_middle(client, target)
        with pytest.raises(BusyError) as caught:
            restore(client, A, target, ignore, force=force)
        told = str(caught.value)
        assert "was broken off at 25 %; --resume goes on with it; remove" in told
        for name in names(target):
            assert f"{target.parent}/{name}" in told
            target.with_name(name).unlink()
        restore(client, A, target, ignore)
        assert target.read_bytes() == CONTENT

    @pytest.mark.parametrize("wanted", [B, Wanted("a", "other")])
    def test_another_point_or_volume_is_not_taken_for_it(self, client: Client, target: Path, wanted: Wanted) -> None:
        if wanted.volume == "other":
            image = target.with_name("other")
            image.write_bytes(bytes(SIZE))
            client.call(ask.Import(images={"other": str(image)}, bookmark="c"))
            image.unlink()
            wanted = Wanted("c", "other")
        left_in_the_middle(client, target)
        with pytest.raises(UsageError, match=r"is of a restore of db at @\d+; give that point"):
            restore(client, wanted, target, ignore, resume=True)

    def test_with_nothing_to_go_on_with_it_begins(self, client: Client, target: Path) -> None:
        assert restore(client, A, target, ignore, resume=True).resumed_bytes == 0
        assert target.read_bytes() == CONTENT

    def test_killed_before_it_had_a_state(self, client: Client, target: Path) -> None:
        target.with_name("db.img.partial").touch()
        restore(client, A, target, ignore, resume=True)
        assert target.read_bytes() == CONTENT
        assert names(target) == ["db.img"]

    @pytest.mark.parametrize("unlinked", [False, True])
    def test_killed_after_it_had_its_name(self, client: Client, target: Path, unlinked: bool) -> None:
        left_in_the_middle(client, target)
        restore_state = target.with_name("db.img.vsnapfs-restore").read_bytes()
        restore(client, A, target, ignore, resume=True)
        target.with_name("db.img.vsnapfs-restore").write_bytes(restore_state)
        if not unlinked:
            target.with_name("db.img.partial").hardlink_to(target)
        done = restore(client, A, target, ignore, resume=True)
        assert (done.written_bytes, done.resumed_bytes) == (0, SIZE)
        assert target.read_bytes() == CONTENT
        assert names(target) == ["db.img"]

    def test_another_file_in_its_place(self, client: Client, target: Path) -> None:
        left_in_the_middle(client, target)
        partial = target.with_name("db.img.partial")
        kept = partial.rename(partial.with_name("kept"))
        partial.write_text("mine")
        with pytest.raises(NotFoundError, match="speaks of"):
            restore(client, A, target, ignore, resume=True)
        partial.unlink()
        with pytest.raises(NotFoundError):
            restore(client, A, target, ignore, resume=True)
        kept.rename(partial)
        restore(client, A, target, ignore, resume=True)

    @pytest.mark.parametrize("content", [b"", b"{}", b'{"format":1}', b"\xff", b"[" * 100_000])
    def test_a_state_that_cannot_be_understood(self, client: Client, target: Path, content: bytes) -> None:
        left_in_the_middle(client, target)
        target.with_name("db.img.vsnapfs-restore").write_bytes(content)
        for resume in (False, True):
            with pytest.raises(IntegrityError, match="remove it, and begin the restore anew"):
                restore(client, A, target, ignore, resume=resume)

    def test_a_state_that_tells_of_what_cannot_be(self, client: Client, target: Path) -> None:
        left_in_the_middle(client, target)
        state = state_of(target)
        path = target.with_name("db.img.vsnapfs-restore")
        for wrong, error in (({"done_bytes": SIZE + 1}, IntegrityError), ({"format": 2}, FormatUnknownError)):
            path.write_bytes(msgspec.json.encode(state | wrong))
            with pytest.raises(error):
                restore(client, A, target, ignore, resume=True)

    def test_two_at_once(self, client: Client, target: Path) -> None:
        def second(_: Progress) -> None:
            with pytest.raises(BusyError, match="in use by another"):
                restore(client, A, target, ignore, resume=True)

        restore(client, A, target, second)
        assert target.read_bytes() == CONTENT

    def test_a_target_that_shrinks(self, client: Client, target: Path) -> None:
        target.write_bytes(bytes(SIZE))

        def shrink(progress: Progress) -> None:
            os.truncate(target, 2 * MIB)

        with pytest.raises(BusyError, match="became shorter while it was written"):
            restore(client, A, target, shrink, force=True)
        restore(client, A, target, ignore, resume=True)
        assert target.read_bytes() == CONTENT


class TestVerification:
    def lose(self, monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
        """A byte is lost on the way to the medium."""
        settle = FileTarget.settle

        def settle_and_lose(file: FileTarget) -> None:
            settle(file)
            with target.with_name("db.img.partial").open("r+b") as partial:
                partial.seek(2 * MIB + 5)
                partial.write(b"lost")

        monkeypatch.setattr(FileTarget, "settle", settle_and_lose)

    def test_finds_what_does_not_read_back(self, client: Client, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lose(monkeypatch, target)
        with pytest.raises(IntegrityError, match=rf"does not read back at {2 * MIB + 5} .*--resume goes on"):
            restore(client, A, target, ignore)
        assert not target.exists()

    def test_can_be_left_out(self, client: Client, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lose(monkeypatch, target)
        assert restore(client, Wanted("a", "db", verify=False), target, ignore).verified is False
        assert target.read_bytes() != CONTENT


@pytest.mark.requires_root
class TestWithRoot:
    """Targets that only root can make."""

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[Path]:
        """Larger than the volume, and it holds NEWER."""
        (tmp_path / "disk").write_bytes(NEWER + b"\xff" * MIB)
        with loop_device(tmp_path / "disk") as device:
            yield device
            device.with_name(f"{device.name}.vsnapfs-restore").unlink(missing_ok=True)

    def test_a_device_is_written_where_it_differs(self, client: Client, device: Path) -> None:
        with pytest.raises(NameTakenError):
            restore(client, A, device, ignore)
        sh("sync", device)
        before = sectors_written(device)
        done = restore(client, A, device, ignore, force=True)
        assert done.written_bytes == BLOCK
        assert (sectors_written(device) - before) * 512 == BLOCK
        assert device.read_bytes() == CONTENT + b"\xff" * MIB
        assert not device.with_name(f"{device.name}.vsnapfs-restore").exists()

    def test_a_device_that_is_too_small(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "disk").write_bytes(b"\xff" * MIB)
        with loop_device(tmp_path / "disk") as device:
            with pytest.raises(NoSpaceError, match=f"has {MIB} bytes, the volume {SIZE}"):
                restore(client, A, device, ignore, force=True)
            assert device.read_bytes() == b"\xff" * MIB

    def test_a_device_in_use(self, client: Client, device: Path, tmp_path: Path) -> None:
        sh("mkfs.ext4", "-q", device)
        before = device.read_bytes()
        held = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            with pytest.raises(BusyError):
                restore(client, A, device, ignore, force=True)
        finally:
            os.close(held)
        assert device.read_bytes() == before
        with mounted(device, tmp_path / "in-use"), pytest.raises(BusyError, match=f"is mounted on {tmp_path}/in-use"):
            restore(client, A, device, ignore, force=True)

    def test_a_file_behind_a_loop_device(self, client: Client, device: Path, tmp_path: Path) -> None:
        with pytest.raises(BusyError, match=f"is behind {device}; `losetup -d"):
            restore(client, A, tmp_path / "disk", ignore, force=True)

    @pytest.mark.usefixtures("often")
    def test_a_device_goes_on_where_it_was(self, client: Client, device: Path) -> None:
        with device.open("r+b") as disk:
            disk.write(os.urandom(SIZE))
        with pytest.raises(Killed):
            restore(client, A, device, killed_at(4 * MIB), force=True)
        with pytest.raises(BusyError, match="broken off"):
            restore(client, A, device, ignore, force=True)
        done = restore(client, A, device, ignore, resume=True)
        assert done.resumed_bytes == 4 * MIB
        assert device.read_bytes() == CONTENT + b"\xff" * MIB

    @pytest.mark.usefixtures("often")
    @pytest.mark.parametrize("resume", [False, True])
    def test_another_disk_under_the_same_name_is_not_taken_for_it(
        self, client: Client, device: Path, resume: bool
    ) -> None:
        """As when a loop device is given another file."""
        with pytest.raises(Killed):
            restore(client, A, device, killed_at(4 * MIB), force=True)
        state = device.with_name(f"{device.name}.vsnapfs-restore")
        left = msgspec.json.decode(state.read_bytes())
        assert left["inode"] > 0
        state.write_bytes(msgspec.json.encode(left | {"inode": left["inode"] - 1}))
        with pytest.raises(NameTakenError):
            restore(client, A, device, ignore, resume=resume)
        device.write_bytes(bytes(SIZE))
        done = restore(client, A, device, ignore, force=True, resume=resume)
        assert done.resumed_bytes == 0
        assert device.read_bytes() == CONTENT + b"\xff" * MIB

    def test_what_is_read_back_comes_from_the_device(
        self, client: Client, device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not from the page cache, which has what was written whatever became of it."""
        settle = FileTarget.settle

        def settle_and_lose(file: FileTarget) -> None:
            settle(file)
            with (tmp_path / "disk").open("r+b") as disk:
                disk.seek(MIB + 5)
                disk.write(b"lost")

        monkeypatch.setattr(FileTarget, "settle", settle_and_lose)
        with pytest.raises(IntegrityError, match=f"does not read back at {MIB + 5}"):
            restore(client, A, device, ignore, force=True)

    def test_a_disk_without_room(self, client: Client, tmp_path: Path) -> None:
        with mounted(Path("tmpfs"), tmp_path / "small", options="size=4m", kind="tmpfs") as small:
            with pytest.raises(NoSpaceError, match=rf"needs {5 * MIB} bytes more, \d+ are free; make room"):
                restore(client, A, small / "db.img", ignore)
            assert os.listdir(small) == []

    def test_a_disk_that_fills_up(self, client: Client, tmp_path: Path) -> None:
        with mounted(Path("tmpfs"), tmp_path / "small", options="size=6m", kind="tmpfs") as small:

            def fill(progress: Progress) -> None:
                if progress.done == MIB:
                    (small / "filler").write_bytes(bytes(2 * MIB))

            with pytest.raises(NoSpaceError, match=r"what was written is in .*db\.img\.partial; --resume"):
                restore(client, A, small / "db.img", fill)
            (small / "filler").unlink()
            restore(client, A, small / "db.img", ignore, resume=True)
            assert (small / "db.img").read_bytes() == CONTENT
            assert os.listdir(small) == ["db.img"]


def sectors_written(device: Path) -> int:
    return int((Path("/sys/block") / device.name / "stat").read_text().split()[6])


def test_an_error_before_the_first_byte_names_no_part(client: Client, target: Path) -> None:
    target.write_text("mine")
    with pytest.raises(VsnapfsError) as caught:
        restore(client, A, target, ignore)
    assert "--resume" not in str(caught.value)


def test_the_result_is_the_documented_object(client: Client, target: Path) -> None:
    assert restore(client, A, target, ignore) == Restored(
        volume="db",
        source=f"@{client.call(ask.Resolve(text='a')).seqno}",
        point=client.call(ask.Resolve(text="a")),
        to=str(target),
        size_bytes=SIZE,
        written_bytes=5 * MIB,
        shared_bytes=0,
        resumed_bytes=0,
        verified=True,
    )
