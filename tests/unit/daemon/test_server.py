"""serve and mount as processes: from the first line to the last, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import (
    Mounted,
    child,
    environment,
    is_mounted,
    make_repository,
    must,
    must_json,
    program,
    run,
    umount,
    unmount,
)
from tests.support.waiting import eventually

pytestmark = [pytest.mark.mount, pytest.mark.requires_root, pytest.mark.requires_fuse]
MIB = 1 << 20
END_S_MAX = 30.0


@pytest.fixture
def repository(memory_path: Path) -> Path:
    """A repository with a thin volume db of 1 MiB."""
    return make_repository(memory_path / "repository", db="1M")


@pytest.fixture
def mountpoint(memory_path: Path) -> Iterator[Path]:
    path = memory_path / "mnt"
    path.mkdir()
    yield path
    unmount(path)


@pytest.fixture
def server(repository: Path, mountpoint: Path) -> Iterator[Mounted]:
    with Mounted(repository, mountpoint) as server:
        yield server


def events(log: str) -> list[dict[str, Any]]:
    """The JSON lines of a log."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


class TestLife:
    def test_sigterm_ends_it_cleanly(self, repository: Path, mountpoint: Path) -> None:
        server = Mounted(repository, mountpoint)
        server.start()
        eventually(lambda: f"serving {repository} at {mountpoint}\n" in server.log, "the line that says it is ready")
        assert (repository / "vsnapfs.sock").is_socket()
        assert server.stop() == 0
        assert not is_mounted(mountpoint)
        assert not (repository / "vsnapfs.sock").exists()
        told = events(server.log)
        assert [event["event"] for event in told] == ["serving", "ending", "ended"]
        assert set(told[0]["memory"]) == {"locked", "kept", "io_flusher", "killed_last"}

    def test_the_ready_line_with_json(self, repository: Path, mountpoint: Path) -> None:
        command = [*program(), "--json", "serve", str(mountpoint)]
        with child(command, env=environment(repository), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with process.stdout as lines:
                ready = json.loads(lines.readline())
            process.terminate()
            assert process.wait(END_S_MAX) == 0
        assert ready == {"repository": str(repository), "mountpoint": str(mountpoint), "pid": process.pid}

    def test_umount_ends_it_cleanly(self, repository: Path, mountpoint: Path) -> None:
        command = [*program(), "serve", str(mountpoint)]
        with child(command, env=environment(repository), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with process.stdout as lines:
                assert lines.readline() == f"serving {repository} at {mountpoint}\n".encode()
            umount(mountpoint)
            assert process.wait(END_S_MAX) == 0
        assert must(repository, "bookmark", "add", "afterwards").startswith("added")

    def test_a_busy_mount_ends_in_time_and_the_log_names_who(self, repository: Path, mountpoint: Path) -> None:
        server = Mounted(repository, mountpoint)
        server.start()
        held = os.open(mountpoint / "live" / "db", os.O_RDWR)
        os.pwrite(held, b"x" * 4096, 0)
        assert server.stop() == 0
        with pytest.raises(OSError, match="not connected"):
            os.close(held)
        assert not is_mounted(mountpoint)
        [busy] = [event for event in events(server.log) if "busy" in event["event"]]
        assert f"pid {os.getpid()}" in " ".join(busy["kept_by"])
        with Mounted(repository, mountpoint) as again:
            assert (again.mountpoint / "live" / "db").read_bytes()[:4096] == b"x" * 4096

    def test_after_kill_9_starting_it_again_is_all(self, repository: Path, mountpoint: Path) -> None:
        command = [*program(), "serve", "--keeper", "none", str(mountpoint)]
        with child(command, env=environment(repository), stdout=subprocess.DEVNULL):
            eventually((mountpoint / "live").is_dir, "it is ready")
        eventually(partial(is_dead, mountpoint), "the mount is dead")
        with Mounted(repository, mountpoint) as again:
            assert [volume.name for volume in (again.mountpoint / "live").iterdir()] == ["db"]
            assert "took away the mount of a server that died" in again.log

    def test_systemd_is_told(self, repository: Path, mountpoint: Path, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(tmp_path / "notify"))
            notify.settimeout(20)
            env = environment(repository) | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
            with child([*program(), "serve", str(mountpoint)], env=env, stdout=subprocess.DEVNULL) as process:
                assert notify.recv(100) == b"READY=1"
                assert is_mounted(mountpoint)
                process.terminate()
                assert notify.recv(100) == b"STOPPING=1"
                assert process.wait(END_S_MAX) == 0


def is_dead(mountpoint: Path) -> bool:
    try:
        mountpoint.stat()
    except OSError:
        return True
    return False


class TestRefusals:
    def test_a_second_server_names_the_first(self, server: Mounted, memory_path: Path) -> None:
        other = memory_path / "other"
        other.mkdir()
        done = run(server.repository, "serve", other)
        assert (done.returncode, done.stdout, f"process {server.pid}" in done.stderr) == (5, "", True)
        done = run(server.repository, "serve", other, "--json")
        assert json.loads(done.stderr.splitlines()[-1])["error"]["fields"]["pid"] == server.pid

    @pytest.mark.parametrize(
        ("mountpoint", "status"),
        [("missing", 3), ("file", 2), ("repository", 2), ("repository/base", 2), (".", 2)],
    )
    @pytest.mark.parametrize("verb", ["serve", "mount"])
    def test_where_nothing_can_be_mounted(self, repository: Path, mountpoint: str, status: int, verb: str) -> None:
        (repository.parent / "file").touch()
        done = run(repository, verb, repository.parent / mountpoint)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        assert (done.returncode, done.stdout, len(lines)) == (status, "", 1), done
        assert not is_mounted(repository.parent / mountpoint)

    def test_settings_that_are_wrong(self, repository: Path, mountpoint: Path) -> None:
        (repository / "vsnapfs.toml").write_text("[journal]\nsegmnt_size = 1\n")
        done = run(repository, "serve", mountpoint)
        assert (done.returncode, "line 2" in done.stderr, "did you mean segment_size" in done.stderr) == (2, True, True)


class TestVerbs:
    def test_whoever_sees_the_mount_can_ask_the_server(self, server: Mounted) -> None:
        """``server`` waits for the mount alone."""
        assert (server.repository / "vsnapfs.sock").is_socket()

    def test_commands_go_to_the_server(self, server: Mounted) -> None:
        must(server.repository, "bookmark", "add", "monday")
        assert (server.mountpoint / "snaps" / "monday" / "db").stat().st_size == MIB
        assert must_json(server.repository, "bookmark", "list")["bookmarks"][0]["name"] == "monday"

    def test_status_tells_of_the_server(self, server: Mounted) -> None:
        (server.mountpoint / "live" / "db").read_bytes()
        status = must_json(server.repository, "status")
        assert (status["served"], status["pid"], status["mountpoint"]) == (True, server.pid, str(server.mountpoint))
        assert (status["protected"], status["problems"]) == (True, [])
        assert set(status["memory"]) == {"locked", "kept", "io_flusher", "killed_last"}
        assert status["requests"]["read"]["bytes"] == MIB
        assert set(status["requests"]["read"]) == {"requests", "errors", "bytes", "nanoseconds", "latency"}

    def test_volumes_come_go_and_grow_while_it_runs(self, server: Mounted) -> None:
        live = server.mountpoint / "live"
        must(server.repository, "volume", "add", "logs", "--size", "64K")
        assert (live / "logs").stat().st_size == 65536
        must(server.repository, "volume", "resize", "logs", "128K")
        assert (live / "logs").stat().st_size == 131072
        must(server.repository, "volume", "remove", "logs")
        assert sorted(path.name for path in live.iterdir()) == ["db"]

    def test_what_was_written_without_fsync_is_committed_soon(self, server: Mounted) -> None:
        with (server.mountpoint / "live" / "db").open("r+b", buffering=0) as volume:
            volume.write(b"x" * 512)
            eventually(lambda: is_committed(server.repository), "the write is committed")

    def test_a_diff_sees_what_was_written_last(self, server: Mounted) -> None:
        must(server.repository, "bookmark", "add", "before")
        with (server.mountpoint / "live" / "db").open("r+b", buffering=0) as volume:
            volume.write(b"x" * 4096)
            [diff] = must_json(server.repository, "diff", "before", "-0s")["diffs"]
        assert diff["changed_bytes"] == 4096

    def test_an_export_beside_the_server(self, server: Mounted, tmp_path: Path) -> None:
        with (server.mountpoint / "live" / "db").open("r+b", buffering=0) as volume:
            volume.write(b"x" * 4096)
        must(server.repository, "export", "-0s", "db", "--to", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"x" * 4096 + bytes(MIB - 4096)

    def test_check_and_repair_beside_the_server(self, server: Mounted) -> None:
        assert must_json(server.repository, "check", "--read-data")["damages"] == []
        assert must_json(server.repository, "check", "--repair")["damages"] == []

    def test_errors_are_those_of_a_command_without_a_server(self, server: Mounted) -> None:
        must(server.repository, "bookmark", "add", "monday")
        done = run(server.repository, "bookmark", "show", "mondai")
        assert (done.returncode, done.stderr) == (
            3,
            "vsnapfs: there is no bookmark 'mondai'; did you mean monday?\n",
        )

    def test_many_commands_at_once(self, server: Mounted) -> None:
        names = [f"b{number}" for number in range(8)]
        command = [*program(), "bookmark", "add"]
        env = environment(server.repository)
        started = [subprocess.Popen([*command, name], env=env, stdout=subprocess.DEVNULL) for name in names]
        assert [process.wait(60) for process in started] == [0] * len(names)
        listed = must_json(server.repository, "bookmark", "list")["bookmarks"]
        assert sorted(bookmark["name"] for bookmark in listed) == names


def is_committed(repository: Path) -> bool:
    """As the server says; ``status`` makes nothing commit."""
    found = re.search(r"records: +(\d+), committed (\d+)", run(repository, "status").stdout)
    assert found is not None
    return found[1] == found[2]


class TestMount:
    def test_it_returns_when_the_tree_answers(self, repository: Path, mountpoint: Path) -> None:
        must(repository, "bookmark", "add", "monday")
        shown = must_json(repository, "mount", mountpoint)
        assert sorted(os.listdir(mountpoint)) == ["at", "diff", "snaps"]
        assert (mountpoint / "snaps" / "latest").readlink() == Path("monday")
        assert os.readlink(f"/proc/{shown['pid']}/cwd") == "/"
        umount(mountpoint)
        eventually(lambda: not Path(f"/proc/{shown['pid']}").exists(), "umount ends the process")

    def test_sigterm_ends_it_too(self, repository: Path, mountpoint: Path) -> None:
        pid = must_json(repository, "mount", mountpoint)["pid"]
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the process ends")
        assert not is_mounted(mountpoint)

    def test_it_belongs_to_no_session_of_the_caller(self, repository: Path, mountpoint: Path) -> None:
        pid = must_json(repository, "mount", mountpoint)["pid"]
        assert os.getsid(pid) == pid
        targets = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)}
        assert targets == {"/dev/null"}

    def test_in_the_foreground(self, repository: Path, mountpoint: Path) -> None:
        with Mounted(repository, mountpoint, verb="mount", options=("--foreground",)) as shown:
            eventually(lambda: f"mounted {repository} at {mountpoint}\n" in shown.log, "it says that it is ready")

    def test_its_error_is_the_caller_s(self, repository: Path, mountpoint: Path, tmp_path: Path) -> None:
        done = run(tmp_path / "nix", "mount", mountpoint)
        assert (done.returncode, done.stderr.count("\n"), "nix does not exist" in done.stderr) == (3, 1, True)
        done = run(repository, "mount", tmp_path / "nix", "--json")
        assert json.loads(done.stderr)["error"]["kind"] == "NotFoundError"

    def test_twice_on_one_place(self, repository: Path, mountpoint: Path) -> None:
        must(repository, "mount", mountpoint)
        assert run(repository, "mount", mountpoint).returncode == 5
        assert os.listdir(mountpoint / "snaps") == []

    def test_beside_a_server_it_follows(self, server: Mounted, memory_path: Path) -> None:
        second = memory_path / "second"
        second.mkdir()
        try:
            must(server.repository, "mount", second)
            must(server.repository, "bookmark", "add", "monday")
            eventually((second / "snaps" / "monday").exists, "the new bookmark shows")
        finally:
            unmount(second)

    def test_a_package_in_the_working_directory_is_not_run(
        self, repository: Path, mountpoint: Path, tmp_path: Path
    ) -> None:
        """``mount`` starts Python again, and Python likes to look for modules where it stands."""
        (tmp_path / "vsnapfs").mkdir()
        (tmp_path / "vsnapfs" / "__init__.py").write_text("raise SystemExit('robbed')")
        command = [program()[0], "-P", *program()[1:], "mount", str(mountpoint)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(repository), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestFstab:
    @pytest.fixture
    def installed(self, tmp_path: Path) -> Path:
        """The program where mount(8) can start it; for ``fuse.vsnapfs`` it looks in the system's directories only."""
        script = tmp_path / "bin" / "vsnapfs"
        script.parent.mkdir()
        source = environment()["PYTHONPATH"]
        script.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {" ".join(program())} "$@"\n')
        script.chmod(0o755)
        return script

    def test_mount_8_mounts_it(self, repository: Path, mountpoint: Path, installed: Path) -> None:
        must(repository, "bookmark", "add", "monday")
        options = "ro,noauto,nofail,_netdev,x-systemd.automount"
        source = f"{installed}#{repository}"
        subprocess.run(["mount", "-t", "fuse", "-o", options, source, mountpoint], check=True)
        assert sorted(os.listdir(mountpoint / "snaps")) == ["latest", "monday"]
        umount(mountpoint)

    def test_the_form_mount_8_uses(self, repository: Path, mountpoint: Path) -> None:
        done = run(None, repository, mountpoint, "-o", "rw,dev,suid")
        assert (done.returncode, done.stderr) == (0, "")
        assert is_mounted(mountpoint)

    def test_an_unknown_option(self, repository: Path, mountpoint: Path) -> None:
        done = run(None, repository, mountpoint, "-o", "ro,alow_other")
        assert (done.returncode, "did you mean allow_other?" in done.stderr) == (2, True)
        assert not is_mounted(mountpoint)

    def test_allow_other(self, repository: Path, mountpoint: Path) -> None:
        must(repository, "mount", mountpoint, "-o", "allow_other")
        line = next(line for line in Path("/proc/mounts").read_text().splitlines() if f" {mountpoint} " in line)
        assert "allow_other" in line
        assert " ro," in line
