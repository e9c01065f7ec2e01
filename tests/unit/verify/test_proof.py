"""The steps of a proof, their order, and what each failure means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from vsnapfs.core.errors import (
    BusyError,
    HuntAbortedError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    StoreError,
    TimedOutError,
    UsageError,
    VsnapfsError,
)
from vsnapfs.policy.verification import Verification
from vsnapfs.verify.proof import Checked, Proof, prove

pytestmark = pytest.mark.unit

ALL = Verification(command=("test",))
BOTH = ("db0", "files")


class FakeGround:
    """Notes what was done. errors: by step and volume."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.errors: dict[str, VsnapfsError] = {}
        self.checks: dict[str, Checked] = {}
        self.failure = ""

    def file(self, volume: str) -> Path:
        return Path("/branch") / volume

    @contextmanager
    def attached(self, volume: str) -> Iterator[Path]:
        if f"attach {volume}" in self.errors:
            raise self.errors[f"attach {volume}"]
        self.done.append(f"attach {volume}")
        yield Path("/mounted") / volume
        self.done.append(f"detach {volume}")
        if f"detach {volume}" in self.errors:
            raise self.errors[f"detach {volume}"]

    @contextmanager
    def shown(self, volume: str) -> Iterator[Path]:
        yield Path("/mounted") / f"{volume}.img"

    def read(self, volume: str) -> None:
        self.done.append(f"read {volume}")
        if f"read {volume}" in self.errors:
            raise self.errors[f"read {volume}"]

    def check(self, volume: str, timeout_s: float) -> Checked:
        self.done.append(f"check {volume} {timeout_s:g}")
        if f"check {volume}" in self.errors:
            raise self.errors[f"check {volume}"]
        return self.checks.get(volume, Checked(True, "clean"))

    def run(self, places: Mapping[str, Path], until: float) -> str:
        self.done.append("run " + " ".join(map(str, places.values())))
        return self.failure


@pytest.fixture
def ground() -> FakeGround:
    return FakeGround()


def proved(ground: FakeGround, verification: Verification = ALL) -> Proof:
    return prove(verification, BOTH, ground, lambda _: None)


def test_everything_in_its_order(ground: FakeGround) -> None:
    """Checked while it is not mounted, after its journal was replayed; and the command has all of them at once."""
    proof = proved(ground)
    assert (proof.good, proof.proved, proof.remarks) == (True, ("mounted", "checked", "command"), ())
    assert ground.done == [
        *("attach db0", "detach db0", "attach files", "detach files"),
        *("check db0 600", "check files 600"),
        *("attach db0", "attach files", "run /mounted/db0 /mounted/files", "detach files", "detach db0"),
    ]


def test_only_what_was_asked_for(ground: FakeGround) -> None:
    proof = proved(ground, Verification(mount=False, check=False, command=("test",)))
    assert (proof.good, proof.proved) == (True, ("command",))
    assert ground.done == ["run /branch/db0 /branch/files"]


@pytest.mark.parametrize(
    ("step", "wanted"),
    [("attach files", ()), ("detach files", ()), ("attach db0", ())],
)
def test_what_cannot_be_mounted_is_not_good(ground: FakeGround, step: str, wanted: tuple[str, ...]) -> None:
    ground.errors[step] = StoreError("bad superblock")
    proof = proved(ground)
    assert (proof.good, proof.proved, proof.reason) == (False, wanted, f"{step.split()[1]}: bad superblock")
    assert not any(done.startswith(("check", "run")) for done in ground.done)


def test_what_is_not_sound_is_not_good(ground: FakeGround) -> None:
    ground.checks["files"] = Checked(False, "Pass 1: Checking\nfree blocks\n  count wrong\nPass 2: Checking")
    proof = proved(ground)
    assert (proof.good, proof.proved, proof.reason) == (False, ("mounted",), "files: free blocks count wrong")
    assert not any(done.startswith("run") for done in ground.done)


def test_what_nobody_can_check_is_told(ground: FakeGround) -> None:
    ground.checks["files"] = Checked(None, "no checker")
    proof = proved(ground)
    assert (proof.good, proof.proved) == (True, ("mounted", "checked", "command"))
    assert proof.remarks == ("files was not checked: no checker",)
    ground.checks["db0"] = Checked(None, "")
    assert proved(ground).proved == ("mounted", "command")
    assert not any(done.startswith("read") for done in ground.done)


def test_a_volume_without_a_filesystem_is_read_whole(ground: FakeGround) -> None:
    """Nobody knows what is in it: what can be proved is that it reads back; and the command is given its file."""
    ground.errors["attach files"] = UsageError("/branch/files holds swap space, no filesystem")
    ground.errors["check files"] = UsageError("/branch/files has partitions")
    proof = proved(ground)
    assert (proof.good, proof.proved) == (True, ("mounted", "checked", "read", "command"))
    assert proof.remarks == ("files was read whole, and that is all: it holds swap space, no filesystem",)
    assert ground.done == [
        *("attach db0", "detach db0", "check db0 600", "check files 600", "read files"),
        *("attach db0", "run /mounted/db0 /mounted/files.img", "detach db0"),
    ]


def test_one_that_does_not_read_is_not_good(ground: FakeGround) -> None:
    for volume in BOTH:
        ground.errors[f"attach {volume}"] = UsageError("holds no filesystem")
        ground.checks[volume] = Checked(None, "")
    ground.errors["read files"] = StoreError("input/output error")
    proof = proved(ground)
    assert (proof.good, proof.proved, proof.reason) == (False, ("read",), "files: input/output error")


@pytest.mark.parametrize("failure", ["", "no table"])
def test_the_command_counts_where_there_is_no_filesystem(ground: FakeGround, failure: str) -> None:
    for volume in BOTH:
        ground.errors[f"attach {volume}"] = UsageError("holds no filesystem")
        ground.checks[volume] = Checked(None, "")
    ground.failure = failure
    assert proved(ground).reason == failure


def test_a_filesystem_that_this_kernel_cannot_mount_is_checked(ground: FakeGround) -> None:
    ground.errors["attach files"] = UsageError("this kernel cannot mount xfs")
    proof = proved(ground)
    assert (proof.good, proof.proved) == (True, ("mounted", "checked", "command"))
    assert proof.remarks == ("files was not mounted: this kernel cannot mount xfs",)


def test_nothing_to_mount_and_nothing_to_check(ground: FakeGround) -> None:
    """A profile of checks alone proves something of what has no checker."""
    ground.checks["files"] = Checked(None, "there is no checker of ntfs")
    proof = proved(ground, Verification(mount=False))
    assert (proof.good, proof.proved) == (True, ("checked", "read"))
    assert proof.remarks == ("files was read whole, and that is all: there is no checker of ntfs",)


def test_a_command_that_could_not_be_run_is_no_verdict(ground: FakeGround) -> None:
    def run(places: Mapping[str, Path], until: float) -> str:
        raise HuntAbortedError("cannot run it")

    ground.run = run  # type: ignore[method-assign]
    with pytest.raises(HuntAbortedError, match=r"^cannot run it"):
        proved(ground)
    assert ground.done[-2:] == ["detach files", "detach db0"]


def test_a_command_that_fails(ground: FakeGround) -> None:
    ground.failure = "test failed with status 1: no table"
    proof = proved(ground)
    assert (proof.good, proof.proved, proof.reason) == (False, ("mounted", "checked"), ground.failure)
    assert ground.done[-2:] == ["detach files", "detach db0"]


@pytest.mark.parametrize("kind", [PermissionDeniedError, BusyError, NoSpaceError, NotFoundError, TimedOutError])
@pytest.mark.parametrize("step", ["attach files", "detach db0"])
def test_what_is_not_the_fault_of_the_point_is_no_verdict(
    ground: FakeGround, kind: type[VsnapfsError], step: str
) -> None:
    ground.errors[step] = kind("not now")
    with pytest.raises(kind):
        proved(ground)


def test_what_fails_when_it_is_let_go_after_the_command(ground: FakeGround) -> None:
    """Its write-back failed, say: what was proved with it was not."""

    def run(places: Mapping[str, Path], until: float) -> str:
        ground.errors["detach db0"] = StoreError("write-back failed")
        return ""

    ground.run = run  # type: ignore[method-assign]
    proof = proved(ground)
    assert (proof.good, proof.proved, proof.reason) == (False, ("mounted", "checked"), "db0: write-back failed")
