"""What was left, by servers that died, by commands that were killed, by an umount: found and taken away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest
from msgspec.structs import replace

from tests.e2e.attach.ground import KINDS, MAKE, SIZES, make_image, names
from tests.support.attaching import left_behind, loops_on
from tests.support.devices import loop_device, mounted, sh
from tests.support.processes import Mounted, child, children_of, is_alive, make_repository, must, must_json, unmount
from tests.support.waiting import eventually, nothing_left
from vsnapfs.attach import attach, attached, detach, records, stale

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]


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


@pytest.mark.parametrize("how", ["umount", "deleted", "namespace"])
def test_what_is_stale_goes_with_the_next_attach(how: str, tmp_path: Path) -> None:
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


def test_a_device_that_is_another_s_by_now_is_left_alone(tmp_path: Path) -> None:
    """Somebody has unmounted it past us; its number, and even the directory, went to something else."""
    image, stranger = make_image(tmp_path, "ext4", {"one": "1"}), tmp_path / "stranger"
    stranger.mkdir()
    other = make_image(stranger, "ext4", {"other": "2"})
    attach(image, tmp_path / "shown")
    sh("umount", tmp_path / "shown")
    eventually(lambda: not loops_on(tmp_path), "the device to go")
    with loop_device(other) as taken, mounted(taken, tmp_path / "shown") as shown:
        with records.locked(str(shown)) as lock:
            record = lock.read()
            assert record is not None
            lock.write(replace(record, attached=replace(record.attached, device=str(taken))))
        detach(shown)
        assert names(shown) == ["other"]
    nothing_left(lambda: left_behind(tmp_path))


def steps_of(verb: str, image: Path, directory: Path, last: int) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.support.attaching", str(last), verb, str(image), str(directory)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])


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
    nothing_left(lambda: left_behind(tmp_path))
    steps = int((whole if verb == "attach" else gone).stdout)
    seen: set[str] = set()
    for number in range(count):
        step = 1 + number * steps // count
        if verb == "detach":
            assert steps_of("attach", image, directory, 0).returncode == 0
        killed = steps_of(verb, image, directory, step)
        if killed.returncode != -signal.SIGKILL:  # there were fewer steps: how often a program is looked at differs
            assert killed.returncode == 0, f"step {step} of {steps}: {killed.stderr}"
            assert int(killed.stdout) < step
        seen |= {records_step()}
        _goes_on(number, image, directory)
        print(f"killed at step {step} of {steps} of {verb}")
        nothing_left(lambda: left_behind(tmp_path))
        assert not directory.exists(), f"killed at step {step} of {steps} of {verb}"
    assert {"attach": {"mounting"}, "detach": {"attached", "detaching"}}[verb] <= seen


def records_step() -> str:
    found = records.all_records()
    return found[0].step if found else ""


def _goes_on(number: int, image: Path, directory: Path) -> None:
    """In turn: by cleaning up, until what was just being started has ended; by the next that wants the same directory."""
    if number % 2 == 0 and records_step() != "attached":
        eventually(lambda: stale.clean_all() == [] and not list(records.place().iterdir()), "all taken away")
    elif records_step() != "attached":
        attach(image, directory)
        assert names(directory) == ["one"]
    if records_step() == "attached":
        detach(directory)


def test_what_a_killed_command_has_started_is_waited_for(tmp_path: Path) -> None:
    """mount(8) goes on when the command is killed: it has the device, and nobody cleans up under it."""
    image, directory, gate = make_image(tmp_path, "ext4", {"one": "1"}), tmp_path / "shown", tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mount").write_text(f'#!/bin/sh\nread -r go < {gate}\nexec {shutil.which("mount")} "$@"\n')
    (tmp_path / "bin/mount").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    argv = [sys.executable, "-m", "tests.support.attaching", "0", "attach", str(image), str(directory)]
    with (
        child(argv, env=os.environ | {"PATH": path}) as attaching,
        gate.open("w") as opened,  # mount(8) waits at it by now
    ):
        (mounting,) = children_of(attaching.pid)
        attaching.kill()
        attaching.wait()
        try:
            assert stale.clean_all() == []
            assert [record.step for record in records.all_records()] == ["mounting"]
            assert loops_on(tmp_path) != []
            _go(opened, mounting)
            assert names(directory) == ["one"]  # mounted all the same
            assert [each.directory for each in stale.clean_all()] == [str(directory)]
        except BaseException:
            _go(opened, mounting)
            unmount(directory)
            for device in loops_on(tmp_path):
                sh("losetup", "--detach", f"/dev/{device}")
            raise
    assert not directory.exists()


def _go(gate: TextIO, pid: int) -> None:
    """Let mount(8) on, and wait for its end."""
    if not gate.closed:
        gate.write("go\n")
        gate.close()
    eventually(lambda: not is_alive(pid), "mount(8) to end")


RUNS = "import sys; from vsnapfs.attach.programs import run; run(['touch', sys.argv[1]], 'coreutils')"


def test_an_interrupt_waits_for_what_was_started(tmp_path: Path) -> None:
    """mount(8) may be in the kernel where no signal ends it: what it does there must not come after all was taken away."""
    image = make_image(tmp_path, "ext4", {})
    with loop_device(image) as device, mounted(device, tmp_path / "frozen") as frozen:
        sh("fsfreeze", "--freeze", frozen)
        try:
            argv = [sys.executable, "-c", RUNS, str(frozen / "new")]
            with child(argv, cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL) as process:
                try:
                    eventually(lambda: [pid for pid in children_of(process.pid) if _state(pid) == "D"], "touch to wait")
                    (pid,) = children_of(process.pid)
                    process.send_signal(signal.SIGINT)
                    eventually(lambda: _is_killed(pid), "it to be killed")
                    with pytest.raises(subprocess.TimeoutExpired):
                        process.wait(2.0)
                finally:
                    sh("fsfreeze", "--unfreeze", frozen)
                assert process.wait(30.0) != 0
                assert not is_alive(pid)
        except BaseException:
            subprocess.run(["fsfreeze", "--unfreeze", str(frozen)], check=False, capture_output=True)
            raise


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _is_killed(pid: int) -> bool:
    """SIGKILL was sent to it and waits there."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("ShdPnd:")[2].split()[0], 16) & 1 << (signal.SIGKILL - 1))
