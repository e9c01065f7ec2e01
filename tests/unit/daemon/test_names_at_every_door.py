"""Names and points that break the rule, in every request that carries one: refused, and nothing is made anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vsnapfs.core.errors import NotFoundError, UsageError
from vsnapfs.core.model import Federation
from vsnapfs.daemon import requests as ask
from vsnapfs.daemon.api import VERBS
from vsnapfs.daemon.client import Client, connect, create
from vsnapfs.daemon.export import Export, export
from vsnapfs.daemon.requests import Request
from vsnapfs.daemon.restore import Wanted, restore

pytestmark = pytest.mark.unit

BAD = [
    "../x",
    "..",
    ".",
    "a/b",
    "/etc/passwd",
    "",
    "a\0b",
    "a\nb",
    "n" * 300,
    "n" * 100_000,
    "-rf",
    " x",
    "ä",
    "\ud800",
]
IMAGE = "IMAGE"
FEDERATION = "7d2f9518-a387-4c5e-8f61-8a39a716dbe8"

DOORS: dict[str, Callable[[str], Request[Any]]] = {
    "volume_add": lambda name: ask.VolumeAdd(name=name, size_bytes=65536),
    "volume_add primary": lambda name: ask.VolumeAdd(name=name, primary=IMAGE),
    "volume_list point": lambda name: ask.VolumeList(point=name),
    "volume_remove": lambda name: ask.VolumeRemove(name=name),
    "volume_resize": lambda name: ask.VolumeResize(name=name, size_bytes=65536),
    "volume_resync": lambda name: ask.VolumeResync(name=name),
    "bookmark_add": lambda name: ask.BookmarkAdd(name=name),
    "bookmark_add at": lambda name: ask.BookmarkAdd(name="good", at=name),
    "bookmark_add quiesce": lambda name: ask.BookmarkAdd(name="good", quiesce=name),
    "bookmark_show": lambda name: ask.BookmarkShow(name=name),
    "bookmark_remove": lambda name: ask.BookmarkRemove(name=name),
    "bookmark_hold": lambda name: ask.BookmarkHold(name=name),
    "bookmark_release": lambda name: ask.BookmarkRelease(name=name),
    "branch_add": lambda name: ask.BranchAdd(name=name, source="a"),
    "branch_add source": lambda name: ask.BranchAdd(name="good", source=name),
    "branch_add source branch": lambda name: ask.BranchAdd(name="good", source=f"branch:{name}"),
    "branch_show": lambda name: ask.BranchShow(name=name),
    "branch_remove": lambda name: ask.BranchRemove(name=name),
    "branch_report": lambda name: ask.BranchReport(name=name, report={}),
    "branch_promote": lambda name: ask.BranchPromote(name=name),
    "restore_live source": lambda name: ask.RestoreLive(source=name, volume="db"),
    "restore_live source branch": lambda name: ask.RestoreLive(source=f"branch:{name}", volume="db"),
    "restore_live volume": lambda name: ask.RestoreLive(source="a", volume=name),
    "restore_live name": lambda name: ask.RestoreLive(source="a", volume="db", name=name),
    "federated_reserve": lambda name: ask.FederatedReserve(id=FEDERATION, name=name, seconds=1),
    "federated_decide": lambda name: ask.FederatedDecide(
        name=name, federation=Federation(id=FEDERATION, repositories=())
    ),
    "import volume": lambda name: ask.Import(images={name: IMAGE}, bookmark="good"),
    "import bookmark": lambda name: ask.Import(images={"good": IMAGE}, bookmark=name),
    "diff since": lambda name: ask.Diff(since=name, until="a"),
    "diff until": lambda name: ask.Diff(since="a", until=name),
    "diff volume": lambda name: ask.Diff(since="a", until="a", volume=name),
    "events since": lambda name: ask.GetEvents(since=name),
    "events kind": lambda name: ask.GetEvents(kinds=[name]),
    "resolve": lambda name: ask.Resolve(text=name),
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with a volume and a bookmark, and an image; the working directory."""
    ground = tmp_path_factory.mktemp("doors")
    create(ground / "repository")
    client = connect(ground / "repository")
    client.call(ask.VolumeAdd(name="db", size_bytes=65536))
    client.call(ask.BookmarkAdd(name="a"))
    (ground / IMAGE).write_bytes(bytes(65536))
    before = Path.cwd()
    os.chdir(ground)
    yield ground
    os.chdir(before)


@pytest.fixture
def client(ground: Path) -> Iterator[Client]:
    client = connect(ground / "repository")
    before = seen(client, ground)
    yield client
    assert seen(client, ground) == before


def seen(client: Client, ground: Path) -> Any:
    """All names there are: of volumes and bookmarks, and of files."""
    volumes = client.call(ask.VolumeList(removed=True)).volumes
    bookmarks = client.call(ask.BookmarkList()).bookmarks
    return volumes, bookmarks, sorted(str(path) for path in ground.rglob("*"))


def test_every_door_is_tried() -> None:
    """A verb with a text of its own that says which volume, bookmark or point."""
    carrying = {
        name
        for name, verb in VERBS.items()
        if {"name", "bookmark", "volume", "point", "since", "text"} & set(verb.request.__struct_fields__)
    }
    assert {door.split()[0] for door in DOORS} == carrying


@pytest.mark.parametrize("door", DOORS)
def test_a_name_that_breaks_the_rule(client: Client, door: str) -> None:
    for name in BAD:
        with pytest.raises((UsageError, NotFoundError)) as caught:
            client.call(DOORS[door](name))
        assert caught.value.exit_status in (2, 3)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BAD)
def test_an_export_and_a_restore(client: Client, tmp_path: Path, name: str) -> None:
    for wanted in (Export(point=name, volume="db"), Export(point="a", volume=name)):
        with pytest.raises((UsageError, NotFoundError)):
            export(client, wanted, tmp_path / "out", lambda _: None)
        with pytest.raises((UsageError, NotFoundError)):
            restore(client, Wanted(wanted.point, wanted.volume), tmp_path / "out", lambda _: None)
    assert os.listdir(tmp_path) == []
