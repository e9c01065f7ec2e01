"""A proof on real loop devices and filesystems, where plain files stand for a branch's volumes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attaching import loops_on
from tests.support.devices import mounted, sh
from tests.support.partition_table import write_gpt
from tests.support.processes import child, environment
from tests.support.waiting import eventually
from vsnapfs.attach.stale import listed
from vsnapfs.core.errors import HuntAbortedError
from vsnapfs.core.model import Point
from vsnapfs.core.times import iso
from vsnapfs.policy.verification import Verification
from vsnapfs.verify.ground import BranchGround, Occasion, clear
from vsnapfs.verify.proof import Proof, prove

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root]

POINT = Point(seqno=7, time=iso(1), time_ns=1, bookmark="monday")
OCCASION = Occasion(point=POINT, branch="verify-7", profile="shop", repository="/repository")
MIB = 1 << 20
EXT4_SUPERBLOCK = 1024


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Records of this test's own; nothing may be left when it ends."""
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    yield
    assert listed() == []
    eventually(lambda: not loops_on(tmp_path), "no loop device left")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The branch's directory, with an ext4 that was in use, and so has its journal to replay, and another one."""
    tree = tmp_path / "branch"
    tree.mkdir()
    made = tmp_path / "made.img"
    for name in ("db0", "files"):
        with made.open("wb") as image:
            image.truncate(32 * MIB)
        sh("mkfs.ext4", "-q", made)
        with mounted(made, tmp_path / "disk", options="loop"):
            (tmp_path / "disk/hello").write_text(name)
            sh("sync", "-f", tmp_path / "disk")
            sh("cp", "--sparse=always", made, tree / name)
    made.unlink()
    return tree


def proof_of(
    tree: Path, tmp_path: Path, *command: str, volumes: tuple[str, ...] = ("db0", "files"), **keys: object
) -> Proof:
    verification = Verification(command=command, **keys)  # type: ignore[arg-type]
    ground = BranchGround(tree, tmp_path / "base/0", verification.command, OCCASION)
    return prove(verification, volumes, ground, lambda _: None)


def test_all_of_it(tree: Path, tmp_path: Path) -> None:
    script = (
        'test "$(cat "$VSNAPFS_VOLUME_DB0"/hello)" = db0 && test "$(cat {}/files/hello)" = files &&'
        ' test "$VSNAPFS_DIR" = {} && echo $VSNAPFS_BOOKMARK $VSNAPFS_SEQNO $VSNAPFS_PROFILE $VSNAPFS_BRANCH > {}/db0/said'
    )
    proof = proof_of(tree, tmp_path, "sh", "-c", script)
    assert proof == Proof("", ("mounted", "checked", "command"), proof.took_s, ())
    with mounted(tree / "db0", tmp_path / "disk", options="loop"):
        assert (tmp_path / "disk/said").read_text() == "monday 7 shop verify-7\n"
    assert list((tmp_path / "base/0").iterdir()) == []


def test_one_volume_is_the_argument(tree: Path, tmp_path: Path) -> None:
    assert proof_of(tree, tmp_path, "test", "-e", "{}/hello", volumes=("files",)).good


def test_files_without_a_mount(tree: Path, tmp_path: Path) -> None:
    proof = proof_of(
        tree, tmp_path, "sh", "-c", "test -f {}/db0 && test -f $VSNAPFS_VOLUME_FILES", mount=False, check=False
    )
    assert (proof.good, proof.proved) == (True, ("command",))
    assert not (tmp_path / "base").exists()


def test_a_filesystem_that_is_not_there_any_more(tree: Path, tmp_path: Path) -> None:
    with (tree / "files").open("r+b") as image:
        image.seek(0)
        image.write(bytes(MIB))
    proof = proof_of(tree, tmp_path, "test", "-d", "{}/files")
    assert (proof.good, proof.proved) == (False, ("mounted", "checked", "read"))
    assert "holds no filesystem" in proof.remarks[0]


def test_contents_that_are_no_filesystem(tree: Path, tmp_path: Path) -> None:
    """The command has their files beside the mounts of the others."""
    with (tree / "raw").open("wb") as image:
        image.truncate(MIB)
        image.write(b"rows of a database")
    with (tree / "swap").open("wb") as image:
        image.truncate(MIB)
    sh("mkswap", tree / "swap")
    with (tree / "disk").open("wb") as image:
        image.truncate(4 * MIB)
    write_gpt(tree / "disk", [(MIB, MIB)])
    script = 'grep -q rows {}/raw && test -f {}/swap && test -d {}/files && echo more >> "$VSNAPFS_VOLUME_DISK"'
    proof = proof_of(tree, tmp_path, "sh", "-c", script, volumes=("raw", "swap", "disk", "files"))
    assert (proof.reason, proof.proved) == ("", ("mounted", "checked", "read", "command"))
    assert [remark.partition(": ")[2].split(" (")[0] for remark in proof.remarks] == [
        "it holds no filesystem that blkid knows",
        "it holds swap space, no filesystem",
        "it has partitions: 1",
    ]
    assert list((tmp_path / "base/0").iterdir()) == []
    assert proof_of(tree, tmp_path, volumes=("raw",)).proved == ("read",)


def test_a_filesystem_that_is_not_sound(tree: Path, tmp_path: Path) -> None:
    """The kernel mounts it; only the check sees it."""
    with mounted(tree / "db0", tmp_path / "disk", options="loop"):
        """Its journal is replayed."""
    sh("debugfs", "-w", "-R", "clri hello", tree / "db0")
    proof = proof_of(tree, tmp_path, "true")
    assert (proof.good, proof.proved) == (False, ("mounted",))
    assert proof.reason.startswith("db0: ")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo one; echo two; exit 3", "sh ended with 3: two"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("exit 125", "sh ended with 125"),
        ("sleep 60", "still running after"),
        ("exec /nonexistent", "ended with 127"),
    ],
)
def test_a_command_that_does_not_succeed(tree: Path, tmp_path: Path, script: str, reason: str) -> None:
    timeout = "5s" if "sleep" in script else "1min"  # the check has to end in it too
    proof = proof_of(tree, tmp_path, "sh", "-c", script, volumes=("files",), timeout=timeout)
    assert (proof.good, proof.proved) == (False, ("mounted", "checked"))
    assert reason in proof.reason


def test_a_program_that_is_not_there(tree: Path, tmp_path: Path) -> None:
    """Its name is mistyped, or it is not installed: that says nothing of the point."""
    with pytest.raises(HuntAbortedError, match="/no/such/program"):
        proof_of(tree, tmp_path, "/no/such/program", volumes=("files",))


def test_a_server_that_the_command_leaves_is_ended(tree: Path, tmp_path: Path) -> None:
    """It has a file of the volume open, which is unmounted all the same."""
    script = "cd {}; setsid sh -c 'echo $$ > left; exec sleep 600' > /dev/null 2>&1 & while ! test -s {}/left; do sleep 0.1; done"
    assert proof_of(tree, tmp_path, "sh", "-c", script, volumes=("files",)).good
    with mounted(tree / "files", tmp_path / "disk", options="loop"):
        pid = int((tmp_path / "disk/left").read_text())
    assert not Path(f"/proc/{pid}").exists()


KILLED = """
import sys
from pathlib import Path
from tests.e2e.test_verify_ground import proof_of
volumes = ("db0", "files", "raw")
proof_of(Path(sys.argv[1]), Path(sys.argv[2]), "sh", "-c", "touch {}/db0/began; sleep 600", volumes=volumes)
"""


def test_what_a_killed_one_has_left_is_cleared(tree: Path, tmp_path: Path) -> None:
    base = tmp_path / "base/0"
    (tree / "raw").write_bytes(bytes(MIB))
    place = {"VSNAPFS_RUN": os.environ["VSNAPFS_RUN"]}
    with child([sys.executable, "-c", KILLED, str(tree), str(tmp_path)], env=environment() | place) as process:
        try:
            eventually((base / "db0/began").exists, "the command to run", deadline_s=60)
        finally:
            process.kill()
    assert {Path(left.directory) for left in listed()} == {base / "db0", base / "files"}
    clear(base)
    assert listed() == []
    assert list(base.iterdir()) == []
    assert proof_of(tree, tmp_path, "true").good
