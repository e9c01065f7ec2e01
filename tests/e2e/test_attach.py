"""Filesystems of points, attached and detached: what is shown, what is refused, and that nothing stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ground import MIB, refused, serving, shown
from tests.support.attaching import left_behind, loops_on
from tests.support.devices import loop_device, mounted, sh
from tests.support.keeper import Workers
from tests.support.processes import Mounted, child, make_repository, must, must_json, run, unmount
from tests.support.waiting import eventually
from vsnapfs.attach import Attached, attached, check_filesystem, device_of
from vsnapfs.core.errors import BusyError, StoreError, UsageError

FAILED, USAGE, NOT_FOUND, DENIED, BUSY = 1, 2, 3, 4, 5
KINDS = ["ext4", "xfs", "btrfs"]
SIZES = {"ext4": 32 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB}
MAKE = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Records of this test alone; at its end there is nothing left, whatever it did."""
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    yield tmp_path
    left = eventually_none(tmp_path)
    for directory in [path for path in left if path.startswith(f"{tmp_path}/") and os.path.isdir(path)]:
        unmount(Path(directory))
    assert left == []


def eventually_none(place: Path) -> list[str]:
    """What is left after a while: a device goes when the last who looks at it closes it."""
    try:
        eventually(lambda: not left_behind(place), "nothing left behind", deadline_s=10)
    except AssertionError:
        return left_behind(place)
    return []


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

    def attach(self, point: str, directory: Path, *options: str) -> Any:
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


@pytest.fixture(params=KINDS)
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    with history_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[History]:
    with history_of("ext4", tmp_path) as made:
        yield made


def names(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name != "lost+found")


def test_points_of_one_filesystem_are_attached_at_once(history: History, tmp_path: Path) -> None:
    """Beside the live one too, which is the same filesystem a fourth time."""
    clean, dirty, later = (tmp_path / name for name in ("clean", "dirty", "later"))
    with loop_device(history.mountpoint / "live/disk") as device, mounted(device, tmp_path / "disk"):
        told = history.attach("clean", clean)
        assert (told["filesystem"], told["notes"], told["writable"]) == (history.kind, [], False)
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(told["options"].split(","))
        assert history.attach("dirty", dirty)["notes"] != []
        assert history.attach("later", later)["notes"] == []
        assert [each["directory"] for each in history.listed()] == [str(clean), str(dirty), str(later)]
        assert names(clean) == ["one"]
        assert names(later) == ["one", "three", "two"]
        assert (later / "three").read_text() == "3"
        with pytest.raises(OSError, match="Read-only"):
            (clean / "new").touch()
        assert [each["what"] for each in history.detach(dirty)] == ["dirty disk"]
        assert sorted(each["directory"] for each in history.detach("--all")) == [str(clean), str(later)]
    assert not clean.exists()
    assert history.listed() == []


def test_a_point_that_the_kernel_reads_by_itself(tmp_path: Path) -> None:
    with history_of("ext4", tmp_path, '[mount]\ndata = "kernel"\n') as history:
        history.attach("clean", tmp_path / "clean")
        history.attach("later", tmp_path / "later")
        assert (names(tmp_path / "clean"), (tmp_path / "later/three").read_text()) == (["one"], "3")
        assert must_json(history.repository, "status")["data"]["open_kernel"] == 2
        history.detach("--all")


def test_a_copy_that_may_be_written_replays_its_journal(ext4: History, tmp_path: Path) -> None:
    copy = tmp_path / "copy.img"
    sh("cp", "--sparse=always", ext4.mountpoint / "snaps/dirty/disk", copy)
    copy.chmod(0o600)
    with attached(copy, tmp_path / "branch", writable=True) as shown:
        assert shown.notes == []
        assert names(tmp_path / "branch") == ["one", "two"]
        (tmp_path / "branch/new").write_text("written")
    with attached(copy, tmp_path / "again", writable=False) as again:
        assert again.notes == []
        assert (tmp_path / "again/new").read_text() == "written"
    with device_of(copy) as device:
        assert check_filesystem(device.path, device.filesystem).ok is True


def test_a_branch_replays_and_is_written_to(history: History, tmp_path: Path) -> None:
    """Beside its point and the branch's own branch; nothing reaches either."""
    repository, point = history.repository, history.mountpoint / "snaps/dirty/disk"
    before = sh("sha256sum", point)
    must(repository, "branch", "add", "try", "--from", "dirty")
    assert history.attach("branch:try", tmp_path / "read")["notes"] != []
    history.detach(tmp_path / "read")
    told = history.attach("branch:try", tmp_path / "shown", "--read-write")
    assert (told["notes"], told["writable"], told["what"]) == ([], True, "branch:try disk")
    assert names(tmp_path / "shown") == ["one", "two"]
    synced(tmp_path / "shown/new", "written")
    assert str(tmp_path / "shown") in refused(repository, BUSY, "attach", "branch:try", "disk", tmp_path / "again")
    must(repository, "branch", "add", "second", "--from", "branch:try")
    history.attach("branch:second", tmp_path / "second", "--read-write")
    assert (tmp_path / "second/new").read_text() == "written"
    (tmp_path / "second/new").unlink()
    assert told["device"] in refused(repository, BUSY, "branch", "remove", "try")
    history.detach("--all")
    history.attach("branch:try", tmp_path / "shown")
    assert (tmp_path / "shown/new").read_text() == "written"
    history.detach(tmp_path / "shown")
    with device_of(history.mountpoint / "branches/second/disk") as device:
        assert check_filesystem(device.path, device.filesystem).ok is True
    for name in ("second", "try"):
        must(repository, "branch", "remove", name)
    sh("sysctl", "-q", "vm.drop_caches=1")
    assert sh("sha256sum", point) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_filesystem_is_told_from_a_whole_one(kind: str, tmp_path: Path) -> None:
    image = make_image(tmp_path, kind, {"one": "1", "two": "2"})
    with device_of(image) as device:
        assert check_filesystem(device.path, device.filesystem).ok is True
    at = {"ext4": 1024 + 0x0C, "xfs": 144, "btrfs": None}[kind]
    if at is None:
        at = int(sh("btrfs", "inspect-internal", "dump-super", image).split("root\t\t\t")[1].split()[0])
        physical = sh("btrfs-map-logical", "-l", str(at), image)
        places = [int(line.split("physical ")[1].split()[0]) for line in physical.splitlines() if "physical" in line]
    else:
        places = [at]
    with image.open("r+b") as file:
        for each in places:
            file.seek(each)
            file.write(b"\x13\x57\x9b\xdf")
    with device_of(image) as device:
        verdict = check_filesystem(device.path, kind)
    assert verdict.ok is False, verdict.text


def test_what_no_checker_knows_is_not_called_damaged(tmp_path: Path) -> None:
    assert check_filesystem("/dev/null", "squashfs").ok is None
    assert check_filesystem(str(tmp_path / "nothing"), "ext4").ok is None


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_one_of_several_partitions(sector_bytes: int, tmp_path: Path) -> None:
    from tests.support.partition_table import write_gpt

    parts = {"ext4": 1 * MIB, "xfs": 40 * MIB, "nothing": 400 * MIB}
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.truncate(410 * MIB)
    lengths = SIZES | {"nothing": MIB}
    write_gpt(disk, [(offset, lengths[kind]) for kind, offset in parts.items()], sector_bytes=sector_bytes)
    for kind in ("ext4", "xfs"):
        image = make_image(tmp_path, kind, {kind: "here"})
        sh(
            "dd",
            f"if={image}",
            f"of={disk}",
            "bs=1M",
            f"seek={parts[kind] // MIB}",
            "conv=notrunc,sparse",
            "status=none",
        )
    with attached(disk, tmp_path / "one", writable=False, partition=1) as one:
        assert (one.filesystem, one.partition, names(tmp_path / "one")) == ("ext4", 1, ["ext4"])
        assert os.statvfs(tmp_path / "one").f_blocks * 1024 <= SIZES["ext4"]
    with attached(disk, tmp_path / "two", writable=True, partition=2) as two:
        assert (two.filesystem, names(tmp_path / "two")) == ("xfs", ["xfs"])
    with (
        pytest.raises(UsageError, match=r"1 \(ext4, .*\), 2 \(xfs, .*\), 3 \(nothing known"),
        _attached(disk, tmp_path),
    ):
        pass
    with pytest.raises(UsageError, match="no partition 7; it has 1, 2, 3"), _attached(disk, tmp_path, partition=7):
        pass
    with pytest.raises(UsageError, match="no filesystem that blkid knows"), _attached(disk, tmp_path, partition=3):
        pass


def _attached(image: Path, place: Path, partition: int | None = None) -> Any:
    return attached(image, place / "wrong", writable=False, partition=partition)


def lvm_label() -> bytes:
    """A sector that says it is a physical volume."""
    content = struct.pack("<I8s32s", 32, b"LVM2 001", b"a" * 32).ljust(512 - 20, b"\0")
    checksum = zlib.crc32(content, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return struct.pack("<8sQI", b"LABELONE", 1, checksum) + content


def luks_header() -> bytes:
    name = b"01234567-89ab-cdef-0123-456789abcdef"
    return b"LUKS\xba\xbe" + struct.pack(">H", 1) + bytes(160) + name.ljust(40, b"\0")


@pytest.mark.parametrize(
    ("offset", "content", "said"),
    [
        (512, lvm_label(), "an LVM physical volume, no filesystem; on a branch: .*vgimportclone"),
        (0, luks_header(), r"an encrypted volume \(LUKS\), no filesystem; .*cryptsetup open --readonly"),
        (4086, b"SWAPSPACE2", "swap space, no filesystem; there are no files in it"),
        (0, b"", "no filesystem that blkid knows"),
    ],
    ids=["lvm", "luks", "swap", "nothing"],
)
def test_what_is_no_filesystem_is_refused_with_the_way_out(
    offset: int, content: bytes, said: str, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    head = bytearray(2 * MIB)  # of less than a floppy disk blkid does not look for parts of others
    if content == b"SWAPSPACE2":
        head[1024:1032] = struct.pack("<II", 1, 255)
    head[offset : offset + len(content)] = content
    image.write_bytes(head)
    with pytest.raises(UsageError, match=said), _attached(image, tmp_path):
        pass
    assert not (tmp_path / "wrong").exists()


def test_images_that_were_made_to_be_read(tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    (tmp_path / "content/one").write_text("1")
    sh("mksquashfs", tmp_path / "content", tmp_path / "squashfs.img", "-quiet", "-no-progress")
    sh("mkfs.erofs", tmp_path / "erofs.img", tmp_path / "content")
    for kind in ("squashfs", "erofs"):
        with attached(tmp_path / f"{kind}.img", tmp_path / "shown", writable=True) as made:
            assert (made.filesystem, made.writable) == (kind, False)
            assert names(tmp_path / "shown") == ["one"]


def test_a_filesystem_that_the_kernel_does_not_have(tmp_path: Path) -> None:
    """Whether it has vfat or not, it is said in words, or shown."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 * MIB)
    sh("mkfs.vfat", image)
    with device_of(image) as device:
        assert check_filesystem(device.path, device.filesystem).ok is True
    if "\tvfat\n" in Path("/proc/filesystems").read_text():
        with attached(image, tmp_path / "shown", writable=True):
            (tmp_path / "shown/one").write_text("1")
        with attached(image, tmp_path / "shown", writable=False):
            assert names(tmp_path / "shown") == ["one"]
    else:
        with pytest.raises(StoreError, match="cannot mount vfat"), _attached(image, tmp_path):
            pass


def test_a_damaged_one_is_told_in_one_line(tmp_path: Path) -> None:
    image = make_image(tmp_path, "ext4", {})
    with image.open("r+b") as file:
        file.seek(1024 + 0x18)
        file.write(struct.pack("<I", 40))  # of the size of a block
    with (
        pytest.raises(StoreError, match=r"cannot mount the ext4: .*; the kernel's log says why"),
        _attached(image, tmp_path),
    ):
        pass


def test_refusals(ext4: History, tmp_path: Path) -> None:
    repository, shown = ext4.repository, tmp_path / "shown"
    assert "did you mean clean" in refused(repository, NOT_FOUND, "attach", "claen", "disk", shown)
    assert "did you mean disk?" in refused(repository, NOT_FOUND, "attach", "clean", "disc", shown)
    assert "no branch 'x'" in refused(repository, NOT_FOUND, "attach", "branch:x", "disk", shown)
    assert "branch add NAME --from clean" in refused(
        repository, DENIED, "attach", "clean", "disk", shown, "--read-write"
    )
    assert "'rw'" in refused(repository, USAGE, "attach", "clean", "disk", shown, "--options", "rw")
    assert "missing argument DIR" in refused(repository, USAGE, "attach", "clean", "disk")
    assert "no partitions" in refused(repository, USAGE, "attach", "clean", "disk", shown, "--partition", "1")
    assert "is not mounted on" in refused(repository, NOT_FOUND, "attach", "clean", "disk", shown, "--mount", tmp_path)
    assert "no name" in refused(repository, USAGE, "attach", "clean", "../disk", shown, "--mount", ext4.mountpoint)
    assert "cannot mount the ext4" in refused(
        repository, FAILED, "attach", "clean", "disk", shown, "--options", "nonsense"
    )
    assert not shown.exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    assert "is not empty" in refused(repository, BUSY, "attach", "clean", "disk", full)
    assert "not a directory" in refused(repository, USAGE, "attach", "clean", "disk", full / "file")
    assert "make the directory" in refused(repository, NOT_FOUND, "attach", "clean", "disk", tmp_path / "no/where")
    assert "is mounted on" in refused(repository, BUSY, "attach", "clean", "disk", ext4.mountpoint)
    assert "nothing is attached" in refused(repository, NOT_FOUND, "detach", shown)
    assert "say what to detach" in refused(repository, USAGE, "detach")
    ext4.attach("clean", shown)
    assert "shows clean disk already" in refused(repository, BUSY, "attach", "later", "disk", shown)
    ext4.detach(shown)


def test_only_root_may(ext4: History, tmp_path: Path) -> None:
    as_user = [*("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"), sys.executable]
    for words in (["attach", "clean", "disk", "/tmp/x", "--mount", "/"], ["attach", "list"], ["detach", "--all"]):
        done = subprocess.run([*as_user, "-m", "vsnapfs.cli", *words], capture_output=True, text=True, check=False)
        assert (done.returncode, "for root" in done.stderr) == (DENIED, True), done.stderr


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", disk=SIZES["ext4"])
    image = make_image(tmp_path, "ext4", {"one": "1"})
    must(repository, "import", f"disk={image}", "--bookmark", "taken")
    said = refused(repository, NOT_FOUND, "attach", "taken", "disk", tmp_path / "shown")
    assert "vsnapfs serve MOUNT" in said
    with shown(repository, tmp_path / "mount") as mount:
        must(repository, "attach", "taken", "disk", tmp_path / "shown", "--mount", mount)
        assert names(tmp_path / "shown") == ["one"]
        must(repository, "detach", tmp_path / "shown")


def test_a_directory_that_was_there_stays(ext4: History, tmp_path: Path) -> None:
    directory = tmp_path / "own"
    directory.mkdir()
    ext4.attach("latest", tmp_path / "link/../own", "--options", "noatime")
    assert "noatime" in ext4.listed()[0]["options"]
    assert len(loops_on(tmp_path)) == 1
    ext4.detach(directory)
    assert list(directory.iterdir()) == []
    assert eventually_none(tmp_path) == []


def test_who_uses_it_is_named(ext4: History, tmp_path: Path) -> None:
    directory = tmp_path / "shown"
    ext4.attach("later", directory)
    with child(["sleep", "600"], cwd=directory) as sleeping:
        said = refused(ext4.repository, BUSY, "detach", directory)
        assert f"sleep (pid {sleeping.pid}, cwd)" in said
        assert ext4.listed()[0]["problem"] == ""
        ext4.detach(directory, "--lazy")
        assert not directory.exists()
        assert loops_on(tmp_path) != []
    assert eventually_none(tmp_path) == []


def test_it_outlives_a_worker(ext4: History, tmp_path: Path) -> None:
    directory = tmp_path / "shown"
    ext4.attach("later", directory)
    Workers(ext4.repository, seed=3).kill(0.1)
    sh("sysctl", "-q", "vm.drop_caches=1")
    assert (directory / "three").read_text() == "3"
    assert ext4.listed()[0]["problem"] == ""
    ext4.detach(directory)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_dead_server_leaves_is_found_and_taken_away(kind: str, tmp_path: Path) -> None:
    """Of a point, and of what was being written to, with data that cannot be written any more."""
    from vsnapfs.attach import attach

    repository = make_repository(tmp_path / "repository", disk=SIZES[kind])
    server = Mounted(repository, tmp_path / "mount", options=("--keeper", "none"))
    server.start()
    try:
        live = server.mountpoint / "live/disk"
        sh(*MAKE[kind], live)
        must(repository, "bookmark", "add", "made")
        must(repository, "attach", "made", "disk", tmp_path / "point")
        attach(live, tmp_path / "written", writable=True)
        (tmp_path / "written/new").write_bytes(bytes(range(256)) * 4096)
        server.kill(leave_mount=True)
        problem = f"nobody serves {server.mountpoint} any more"
        both = [(str(tmp_path / name), problem) for name in ("point", "written")]
        told = must_json(repository, "attach", "list")["attached"]
        assert [(each["directory"], each["problem"]) for each in told] == both
        found = must_json(repository, "detach", "--stale")["detached"]
        assert [(each["directory"], each["problem"]) for each in found] == both
        assert not (tmp_path / "written").exists()
    finally:
        server.kill()


def test_what_is_written_to_is_attached_once(tmp_path: Path) -> None:
    from vsnapfs.attach import attach, detach

    image = make_image(tmp_path, "ext4", {"one": "1"})
    attach(image, tmp_path / "written", writable=True)
    for writable in (False, True):
        with pytest.raises(BusyError, match=f"attached for writing on {tmp_path}/written"):
            attach(image, tmp_path / "second", writable=writable)
    detach(tmp_path / "written")
    attach(image, tmp_path / "read")
    with pytest.raises(BusyError, match=f"attached read-only on {tmp_path}/read"):
        attach(image, tmp_path / "second", writable=True)
    attach(image, tmp_path / "second")
    detach(tmp_path / "read")
    detach(tmp_path / "second")
    with loop_device(image) as device, pytest.raises(BusyError, match=f"in use by {device}"):
        attach(image, tmp_path / "second", writable=True)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("how", ["umount", "deleted", "namespace"])
def test_what_is_stale_goes_with_the_next_attach(how: str, tmp_path: Path) -> None:
    from msgspec.structs import replace

    from vsnapfs.attach import attach, records

    image, other = make_image(tmp_path, "ext4", {"one": "1"}), tmp_path / "other"
    attach(image, tmp_path / "shown")
    record = records.all_records()[0]
    if how == "deleted":
        image.unlink()
    else:
        sh("umount", tmp_path / "shown")
    if how == "namespace":
        with records.locked(record.attached.directory) as lock:
            lock.write(replace(record, namespace="mnt:[1]"))
    if how != "deleted":
        with attached(image, other, writable=False):
            assert [each.attached.directory for each in records.all_records()] == [str(other)]
    else:
        assert [each["problem"] for each in must_json(tmp_path, "detach", "--stale")["detached"]] == [
            f"{image} was deleted"
        ]
    assert (tmp_path / "shown").exists() == (how == "namespace")


def steps_of(verb: str, image: Path, directory: Path, last: int) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.support.attaching", str(last), verb, str(image), str(directory)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_killed_at_any_step_it_leaves_what_the_next_takes_away(verb: str, tmp_path: Path) -> None:
    """VSNAPFS_ATTACH_KILLS steps, evenly over all there are."""
    image, directory = make_image(tmp_path, "ext4", {"one": "1"}), tmp_path / "shown"
    count = int(os.environ.get("VSNAPFS_ATTACH_KILLS", "24"))
    whole = steps_of("attach", image, directory, 0)
    assert whole.returncode == 0, whole.stderr
    gone = steps_of("detach", image, directory, 0)
    assert gone.returncode == 0, gone.stderr
    assert eventually_none(tmp_path) == []
    steps = int((whole if verb == "attach" else gone).stdout)
    seen: set[str] = set()
    for number in range(count):
        step = 1 + number * steps // count
        if verb == "detach":
            assert steps_of("attach", image, directory, 0).returncode == 0
        killed = steps_of(verb, image, directory, step)
        in_time = (
            killed.returncode == -signal.SIGKILL
        )  # or there were fewer steps: how often a program is looked at differs
        assert in_time or (killed.returncode == 0 and step > steps * 0.9), f"step {step} of {steps}: {killed.stderr}"
        seen |= {records_step()}
        _goes_on(number, image, directory)
        assert eventually_none(tmp_path) == [], f"killed at step {step} of {steps} of {verb}"
        assert not directory.exists(), f"killed at step {step} of {steps} of {verb}"
    assert {"attach": {"mounting"}, "detach": {"attached", "detaching"}}[verb] <= seen


def records_step() -> str:
    from vsnapfs.attach import records

    found = records.all_records()
    return found[0].step if found else ""


def _goes_on(number: int, image: Path, directory: Path) -> None:
    """In turn: by cleaning up, until what was just being started has ended; by the next that wants the same directory."""
    from vsnapfs.attach import attach, detach, records, stale

    if number % 2 == 0 and records_step() != "attached":
        eventually(lambda: stale.clean_all() == [] and not list(records.place().iterdir()), "all taken away")
    elif records_step() != "attached":
        attach(image, directory)
        assert names(directory) == ["one"]
    if records_step() == "attached":
        detach(directory)


def test_what_a_killed_command_has_started_is_waited_for(tmp_path: Path) -> None:
    """mount(8) goes on when the command is killed: it has the device, and nobody cleans up under it."""
    from vsnapfs.attach import records, stale

    image, directory, gate = make_image(tmp_path, "ext4", {"one": "1"}), tmp_path / "shown", tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mount").write_text(f'#!/bin/sh\nread -r go < {gate}\nexec {shutil.which("mount")} "$@"\n')
    (tmp_path / "bin/mount").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    argv = [sys.executable, "-m", "tests.support.attaching", "0", "attach", str(image), str(directory)]
    with child(argv, env=os.environ | {"PATH": path}) as attaching:
        with gate.open("w") as opened:  # returns when mount(8) waits at it
            attaching.kill()
            attaching.wait()
            assert stale.clean_all() == []
            assert [record.step for record in records.all_records()] == ["mounting"]
            assert loops_on(tmp_path) != []
            opened.write("go\n")
        eventually(lambda: names(directory) == ["one"], "mounted all the same")
        eventually(lambda: [each.directory for each in stale.clean_all()] == [str(directory)], "taken away")
    assert not directory.exists()


def test_two_at_once_on_one_directory(tmp_path: Path) -> None:
    image = make_image(tmp_path, "ext4", {"one": "1"})
    with (
        child(
            [sys.executable, "-m", "tests.support.attaching", "0", "attach", str(image), str(tmp_path / "shown")]
        ) as a,
        child(
            [sys.executable, "-m", "tests.support.attaching", "0", "attach", str(image), str(tmp_path / "shown")]
        ) as b,
    ):
        assert sorted(abs(process.wait(60)) for process in (a, b)) == [0, 1]
    must(tmp_path, "detach", tmp_path / "shown")


def test_many_at_once_on_their_own(tmp_path: Path) -> None:
    """None is in the way of another, though each cleans up."""
    from concurrent.futures import ThreadPoolExecutor

    image = make_image(tmp_path, "xfs", {"one": "1"})

    def round_trip(number: int) -> Attached:
        with attached(image, tmp_path / f"shown-{number}", writable=False) as made:
            assert names(tmp_path / f"shown-{number}") == ["one"]
            return made

    with ThreadPoolExecutor(4) as pool:
        assert len({made.directory for made in pool.map(round_trip, range(16))}) == 16
    assert run(tmp_path, "detach", "--stale").stdout == ""
