"""A repository in memory, as the tree sees one: volumes with writes, bookmarks, points. Each call is counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from vsnapfs.core.branch import BranchPlace, BranchVolume
from vsnapfs.core.errors import NotFoundError, PointGoneError
from vsnapfs.core.model import Bookmark, Extent, Point, Volume, VolumeAt, VolumeDiff
from vsnapfs.core.points import Ago, Instant, Latest, Named, Seqno, parse_point
from vsnapfs.core.times import NS_PER_S, iso

START_NS = 1_700_000_000 * NS_PER_S


def time_ns_of(seqno: int) -> int:
    """Record n is written n seconds after the start."""
    return START_NS + seqno * NS_PER_S


class FakeFacts(NamedTuple):
    committed_seqno: int
    last_time_ns: int


class FakeState(NamedTuple):
    last_write_ns: int


class FakeView(NamedTuple):
    name: str
    point: Point

    def file(self) -> str:
        return f"{self.name}@{self.point.seqno}"


class FakeJournal:
    def __init__(self, repository: FakeRepository) -> None:
        self._repository = repository

    def facts(self) -> FakeFacts:
        last = self._repository.last_seqno
        return FakeFacts(last, time_ns_of(last))

    def volume_at(self, volume: int, seqno: int) -> FakeState:
        return FakeState(time_ns_of(self._repository.last_write(volume, seqno)))

    def live_file(self, volume: int) -> str:
        return f"live {volume}"


class FakeRepository:
    """Two volumes, ``db`` (id 1, added by record 1) and ``logs`` (id 2, by record 2); ``write`` adds a record."""

    path = Path("/nowhere")

    def __init__(self) -> None:
        self.generation = 0
        self.last_seqno = 2
        self.journal = FakeJournal(self)
        self.calls: Counter[str] = Counter()
        self.unseen: list[Bookmark] = []
        self._bookmarks: dict[str, Bookmark] = {}
        self._branches: dict[str, BranchPlace] = {}
        self._branch_ids = 0
        self._writes: dict[int, list[int]] = {1: [1], 2: [2]}
        self._volumes = {
            name: Volume(
                id=number,
                name=name,
                size_bytes=1 << 20,
                block_size_bytes=512,
                primary="repository",
                primary_path=f"/nowhere/{name}",
                base=False,
                added_seqno=number,
            )
            for number, name in ((1, "db"), (2, "logs"))
        }

    # What a test does to it

    def record(self) -> int:
        self.last_seqno += 1
        return self.last_seqno

    def write(self, name: str) -> int:
        seqno = self.record()
        self._writes[self._volumes[name].id].append(seqno)
        return seqno

    def bookmark(self, name: str, *, at: int | None = None, seen: bool = True, **facts: Any) -> Bookmark:
        created_seqno = self.record()
        seqno = created_seqno if at is None else at
        time_ns = time_ns_of(seqno)
        made = Bookmark(
            name=name,
            seqno=seqno,
            time=iso(time_ns),
            time_ns=time_ns,
            consistency=facts.pop("consistency", "crash"),
            created_seqno=created_seqno,
            created=iso(time_ns_of(created_seqno)),
            created_ns=time_ns_of(created_seqno),
            **facts,
        )
        if seen:
            self.put(made)
        else:
            self.unseen.append(made)
        return made

    def put(self, bookmark: Bookmark) -> None:
        self._bookmarks[bookmark.name] = bookmark
        self.generation += 1

    def remove(self, name: str) -> None:
        del self._bookmarks[name]
        self.generation += 1

    def resize(self, name: str, size_bytes: int) -> None:
        volume = self._volumes[name]
        self._volumes[name] = Volume(
            **{field: getattr(volume, field) for field in volume.__struct_fields__} | {"size_bytes": size_bytes}
        )
        self.generation += 1

    def remove_volume(self, name: str) -> None:
        del self._volumes[name]
        self.generation += 1

    def branch(self, name: str, seqno: int = 2) -> BranchPlace:
        """Another id for each."""
        self._branch_ids += 1
        volumes = tuple(
            BranchVolume(name=volume.name, id=volume.id, size_bytes=volume.size_bytes)
            for volume in self._volumes.values()
            if volume.added_seqno <= seqno
        )
        made = BranchPlace(
            name=name,
            id=self._branch_ids,
            seqno=seqno,
            time=iso(time_ns_of(seqno)),
            created_ns=time_ns_of(self.last_seqno),
            volumes=volumes,
        )
        self._branches[name] = made
        self.generation += 1
        return made

    def remove_branch(self, name: str) -> None:
        del self._branches[name]
        self.generation += 1

    def last_write(self, volume: int, seqno: int) -> int:
        return max(write for write in self._writes[volume] if write <= seqno)

    # What the tree asks

    def refresh(self) -> bool:
        self.calls["refresh"] += 1
        news, self.unseen = self.unseen, []
        for bookmark in news:
            self.put(bookmark)
        return bool(news)

    def bookmarks(self) -> list[Bookmark]:
        self.calls["bookmarks"] += 1
        return sorted(self._bookmarks.values(), key=lambda bookmark: (bookmark.seqno, bookmark.created_seqno))

    def point_not_before(self, seqno: int) -> Point:
        return self.resolve(f"@{seqno}")

    def resolve(self, text: str) -> Point:
        self.calls["resolve"] += 1
        match parse_point(text):
            case Named(name=name):
                if name not in self._bookmarks:
                    raise NotFoundError(f"no bookmark {name!r}")
                return self._point(self._bookmarks[name].seqno, name)
            case Seqno(seqno=seqno):
                if seqno > self.last_seqno:
                    raise PointGoneError(f"@{seqno} is not there yet", seqno=seqno)
                return self._point(seqno)
            case Instant(time_ns=time_ns):
                return self._point(min((time_ns - START_NS) // NS_PER_S, self.last_seqno))
            case Ago(span_ns=span_ns):
                return self._point(self.last_seqno - span_ns // NS_PER_S)
            case Latest():
                return self._point(self.last_seqno)

    def _point(self, seqno: int, bookmark: str | None = None) -> Point:
        time_ns = time_ns_of(seqno)
        return Point(seqno=seqno, time=iso(time_ns), time_ns=time_ns, bookmark=bookmark)

    def volumes(self, point: Point | None = None) -> list[Volume]:
        self.calls["volumes"] += 1
        until = self.last_seqno if point is None else point.seqno
        return [volume for volume in self._volumes.values() if volume.added_seqno <= until]

    def volume_at(self, name: str, point: Point) -> VolumeAt:
        self.calls["volume_at"] += 1
        for volume in self.volumes(point):
            if volume.name == name:
                seqno = self.last_write(volume.id, point.seqno)
                return VolumeAt(
                    name=name,
                    id=volume.id,
                    size_bytes=volume.size_bytes,
                    data_bytes=4096 * self._writes[volume.id].index(seqno) + 100,
                    last_write_seqno=seqno,
                    last_write_time=iso(time_ns_of(seqno)),
                )
        raise NotFoundError(f"no volume {name!r}")

    def manifest(self, point: Point) -> dict[str, Any]:
        self.calls["manifest"] += 1
        bookmark = self._bookmarks[point.bookmark] if point.bookmark else None
        return {"seqno": point.seqno, "bookmark": point.bookmark, "held": bookmark.held if bookmark else False}

    def view(self, name: str, point: Point) -> FakeView:
        return FakeView(name, point)

    def diff(self, since: Point, until: Point, name: str) -> VolumeDiff:
        self.calls["diff"] += 1
        extents = [Extent(offset_bytes=0, length_bytes=until.seqno - since.seqno, zero=False)]
        return VolumeDiff(
            volume=name,
            since=since,
            until=until,
            size_bytes=1 << 20,
            changed_bytes=until.seqno - since.seqno,
            extents=extents,
        )

    def branch_places(self) -> list[BranchPlace]:
        self.calls["branch_places"] += 1
        return [self._branches[name] for name in sorted(self._branches)]

    def branch_manifest(self, name: str) -> dict[str, Any]:
        return {"branch": name, "id": self._branches[name].id}

    def branch_changed_ns(self, name: str, volume: str) -> int:
        return time_ns_of(100 * self._branches[name].id + len(volume))

    def branch_file(self, name: str, volume: str, branch_id: int | None = None) -> str:
        if branch_id not in (None, self._branches[name].id):
            raise NotFoundError("another branch")
        return f"{volume} of {name}"
