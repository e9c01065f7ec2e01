"""How a branch or a mount says whose it is; and how a place for mounts is removed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.unit.hunt.fakes import FakeGround, begin, point
from vsnapfs.attach import stale
from vsnapfs.attach.model import Attached, Record
from vsnapfs.attach.records import locked
from vsnapfs.attach.stale import own_namespace
from vsnapfs.core.errors import NameTakenError, NotFoundError, StoreError, UntestableError
from vsnapfs.hunt import served
from vsnapfs.hunt.log import Making
from vsnapfs.hunt.served import ServedGround, _made, clear_directory, label, log_in

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("log", ["/root/vsnapfs-hunt-0badcafe.log", "/a b/, log /x", "/"])
def test_a_label_leads_to_the_log(log: str) -> None:
    text = label("0badcafe", Path(log))
    assert log_in(text) == Path(log)
    assert log_in(f"@12 db0 of {text}") == Path(log)


@pytest.mark.parametrize(
    "text", ["", "hunting", "hunt 12, log /x", "hunt 0badcafe, log x", "to hunt with", "ahunt 0badcafe, log /x"]
)
def test_what_is_no_label_leads_nowhere(text: str) -> None:
    assert log_in(text) is None


def test_a_place_is_removed_though_something_of_another_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise StoreError("cannot unmount /another's")

    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    monkeypatch.setattr(served, "clean_all", refused)
    (tmp_path / "run").mkdir()
    (tmp_path / "place/db").mkdir(parents=True)
    clear_directory(tmp_path / "place")
    assert not (tmp_path / "place").exists()


def test_a_place_is_removed_though_others_were_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a server ends, all that is attached of it is stale, and each job of a hunt cleans up."""
    directory = tmp_path / "place/db"
    directory.mkdir(parents=True)
    monkeypatch.setenv("VSNAPFS_RUN", str(tmp_path / "run"))
    with locked(str(directory)) as lock:
        lock.write(record(directory))
    monkeypatch.setattr(served, "clean_all", list)
    seen = stale.listed()

    def as_it_goes() -> list[Attached]:
        stale.clean_all()
        return seen

    monkeypatch.setattr(served, "listed", as_it_goes)
    clear_directory(tmp_path / "place")
    assert not (tmp_path / "place").exists()


def test_a_mount_that_fails_as_the_server_ends_says_nothing_of_the_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be tested when the hunt goes on."""
    ground = ServedGround.__new__(ServedGround)
    monkeypatch.setattr(ground, "_begin", begin(FakeGround([1, 9], {}), 1, 9), raising=False)
    monkeypatch.setattr(ground, "_label", "hunt 0badcafe, log /log", raising=False)
    monkeypatch.setattr(ground, "_mountpoint", tmp_path, raising=False)
    spot = Making(number=1, state=9, point=point(9), branch="", directory=str(tmp_path / "place"))

    def refused(*_: object, **__: object) -> None:
        raise StoreError("cannot mount the ext4: I/O error")

    def lost() -> None:
        raise NotFoundError("the server that the hunt needs has ended")

    monkeypatch.setattr(served, "attach", refused)
    (tmp_path / "at/@9").mkdir(parents=True)
    (tmp_path / "at/@9/db").touch()
    for check, error in ((lost, NotFoundError), (lambda: None, UntestableError)):
        monkeypatch.setattr(ground, "check", check)
        with pytest.raises(error):
            ground.make(spot)
        (tmp_path / "place").rmdir()


def record(directory: Path) -> Record:
    attached = Attached(
        directory=str(directory), device="", filesystem="ext4", partition=None, options="", writable=True,
        source="/nowhere/image", what="", since="2026-11-23T10:15:00.000000000Z", notes=[],
    )  # fmt: skip
    return Record(
        attached=attached,
        step="mounting",
        pid=1,
        made_directory=True,
        tree="",
        tree_device="",
        namespace=own_namespace(),
    )


def test_another_user_may_go_through_a_place_for_mounts(tmp_path: Path) -> None:
    """Whatever the umask: a test may become one, as that of a database does."""
    before = os.umask(0o077)
    try:
        made = _made(tmp_path / "place")
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.stat().st_mode) == 0o711
    with pytest.raises(NameTakenError):
        _made(tmp_path / "place")
