"""Filesystems of points and branches, attached and detached: what is shown, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.attach.ground import SIZES, History, history_of, make_image, names, synced
from tests.e2e.ground import refused, shown
from tests.support.attaching import left_behind, loops_on
from tests.support.devices import loop_device, mounted, sh
from tests.support.keeper import Workers
from tests.support.processes import child, make_repository, must, must_json, run
from tests.support.waiting import eventually, nothing_left
from vsnapfs.attach import Attached, attach, attached, check_filesystem, detach, device_of
from vsnapfs.core.errors import BusyError

FAILED, USAGE, NOT_FOUND, DENIED, BUSY = 1, 2, 3, 4, 5

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


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
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    assert "is not text" in refused(repository, USAGE, "attach", "clean", "disk", odd)
    assert "nothing is attached" in refused(repository, NOT_FOUND, "detach", odd)
    assert "nothing is attached" in refused(repository, NOT_FOUND, "detach", shown)
    assert "say what to detach" in refused(repository, USAGE, "detach")
    ext4.attach("clean", shown)
    assert "shows clean disk already" in refused(repository, BUSY, "attach", "later", "disk", shown)
    ext4.detach(shown)


@pytest.mark.parametrize("name", ["a b", "-x", "back\\slash", "tab\tand\nline", "\r\x0c\x85\u2028"])
def test_a_directory_of_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_image(tmp_path, "ext4", {"one": "1"})
    monkeypatch.chdir(tmp_path)
    assert attach(image, name).directory == str(tmp_path / name)
    assert names(tmp_path / name) == ["one"]
    with (tmp_path / name / "one").open(), pytest.raises(BusyError, match=rf"pid {os.getpid()}, open"):
        detach(name)
    assert detach(name).directory == str(tmp_path / name)
    nothing_left(lambda: left_behind(tmp_path))


def test_only_root_may() -> None:
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
    assert len(loops_on(ext4.mountpoint)) == 1
    ext4.detach(directory)
    assert list(directory.iterdir()) == []
    eventually(lambda: loops_on(ext4.mountpoint) == [], "its device to go")


def test_who_uses_it_is_named(ext4: History, tmp_path: Path) -> None:
    directory = tmp_path / "shown"
    ext4.attach("later", directory)
    with child(["sleep", "600"], cwd=directory) as sleeping:
        said = refused(ext4.repository, BUSY, "detach", directory)
        assert f"sleep (pid {sleeping.pid}, cwd)" in said
        assert ext4.listed()[0]["problem"] == ""
        ext4.detach(directory, "--lazy")
        assert not directory.exists()
        assert loops_on(ext4.mountpoint) != []
    eventually(lambda: loops_on(ext4.mountpoint) == [], "its device to go")


def test_what_is_mounted_over_it_goes_first(ext4: History, tmp_path: Path) -> None:
    directory = tmp_path / "shown"
    ext4.attach("later", directory)
    sh("mount", "-t", "tmpfs", "over", directory)
    try:
        assert f"over is mounted over {directory}" in refused(ext4.repository, BUSY, "detach", directory)
        assert ext4.listed()[0]["problem"] == ""
    finally:
        sh("umount", directory)
    ext4.detach(directory)


def test_a_part_of_it_that_is_mounted_over_it_goes_too(tmp_path: Path) -> None:
    image = make_image(tmp_path, "ext4", {"one": "1"})
    attach(image, tmp_path / "shown")
    sh("mount", "--bind", tmp_path / "shown/lost+found", tmp_path / "shown")
    assert detach(tmp_path / "shown").source == str(image)
    nothing_left(lambda: left_behind(tmp_path))


def test_a_point_that_moves_is_settled(ext4: History, tmp_path: Path) -> None:
    """By the mount alone too: each look at -0s would find another."""
    shown = ext4.attach("-0s", tmp_path / "shown", "--mount", ext4.mountpoint)
    assert Path(shown["source"]).parent.name.startswith("@")
    ext4.detach(tmp_path / "shown")


def test_it_outlives_a_worker(ext4: History, tmp_path: Path) -> None:
    directory = tmp_path / "shown"
    ext4.attach("later", directory)
    Workers(ext4.repository, seed=3).kill(0.1)
    sh("sysctl", "-q", "vm.drop_caches=1")
    assert (directory / "three").read_text() == "3"
    assert ext4.listed()[0]["problem"] == ""
    ext4.detach(directory)


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


def test_a_device_that_is_just_going_is_no_stranger(tmp_path: Path) -> None:
    """Whoever looks at it in this moment, as udev does at a new one, has it open a little longer than its mount."""
    image = make_image(tmp_path, "ext4", {"one": "1"})
    with attached(image, tmp_path / "first", writable=True) as made:
        looking = os.open(made.device, os.O_RDONLY)
    closing = threading.Timer(0.3, os.close, (looking,))
    closing.start()
    try:
        with attached(image, tmp_path / "second", writable=True):
            assert names(tmp_path / "second") == ["one"]
    finally:
        closing.join()


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
