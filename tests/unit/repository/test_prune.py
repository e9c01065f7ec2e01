"""Pruning a real repository: what the preview says is what happens, and what stays reads as before."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import msgspec
import pytest

from tests.support.devices import mounted
from tests.support.pruned import SIZE_BYTES, grow, held_bytes, opened, sums, unique_bytes, write_some
from tests.support.volumes import content_at, put
from vsnapfs.binding import Journal, RecordKind
from vsnapfs.catalog.bodies import BookmarkAdded, BookmarkNamed
from vsnapfs.core.errors import BusyError, CorruptExtentError, NoSpaceError, PointGoneError, StoreError, VsnapfsError
from vsnapfs.core.keeping import Prune
from vsnapfs.core.state import Progress
from vsnapfs.repository import bookmarks
from vsnapfs.repository import prune as prune_module
from vsnapfs.repository.parts import Rewriting
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.reservations import Pending

SOON = 'protection_window = "1ms"'
"""Everything but the newest records lies before it."""


def names(count: int) -> list[str]:
    return [f"b{number:03}" for number in range(count)]


def as_previewed(result: Prune, preview: Prune) -> bool:
    """Was everything done that was said, and nothing else?"""
    told = msgspec.structs.replace(result, dry_run=True, freed_bytes=0)
    differ = [name for name in Prune.__struct_fields__ if getattr(told, name) != getattr(preview, name)]
    assert {name: (getattr(told, name), getattr(preview, name)) for name in differ} == {}
    assert result.freed_bytes == result.predicted_bytes
    return True


def test_dropping_nine_of_ten(path: Path) -> None:
    """What stays has the same sums, in this process and in the next one, and takes no more than it has to."""
    rng = random.Random(11)
    with opened(path, f'{SOON}\n[retention.names."b??0"]\n[retention.names."*"]\nkeep_last = 1') as repository:
        grow(repository, rng, names(100), 40)
        write_some(repository, rng, 200)
        repository.journal.commit()
        before = sums(repository)
        preview = repository.prune_preview()
        held = held_bytes(repository)
        result = repository.prune()
        assert as_previewed(result, preview)
        assert (result.kept, result.removed) == (11, 89)
        assert abs(held - held_bytes(repository) - result.freed_bytes) <= result.freed_bytes // 100
        kept = {fate.bookmark for fate in result.bookmarks if fate.stays}
        assert sums(repository) == {place: digest for place, digest in before.items() if place[0] in kept}
        whole = sum(segment.size_bytes for segment in repository.journal.segments() if not segment.generation)
        assert held_bytes(repository) - whole <= unique_bytes(repository, kept) * 1.1
        status = repository.status()
        assert status.any_instant_from == result.after.any_instant
        assert (status.compaction.running, status.compaction.removed) == (False, 89)
        assert repository.prune().removed == 0
    with Repository.open(path, owner=True) as again:
        assert again.check(read_data=True).damages == []
    assert list(path.glob("*.bad")) == [], "the catalog is of the same journal"
    with Repository.open(path, owner=False) as reader:
        assert sums(reader) == {place: digest for place, digest in before.items() if place[0] in kept}


def test_the_oldest_point_can_be_opened_though_it_is_given_up_meanwhile(path: Path) -> None:
    """It stays the oldest until another run makes a later one so: nothing else says which it is."""
    rng = random.Random(14)
    with opened(path, f"{SOON}\nkeep_last = 3") as repository:
        grow(repository, rng, names(20), 40)
        write_some(repository, rng, 200)
        repository.journal.commit()

        def give_up(progress: Progress) -> None:
            oldest = repository.bookmarks()[0]
            if progress.what == "compaction" and oldest.name == "b017":
                repository.bookmark_remove(oldest.name)

        oldest = repository.prune(give_up).after.oldest
        assert oldest is not None
        assert [bookmark.name for bookmark in repository.bookmarks()] == ["b018", "b019"]
        assert repository.status().window_first == oldest
        content_at(repository, "db0", f"@{oldest.seqno}")
        repository.prune()
        oldest = repository.prune().after.oldest
        assert oldest is not None
        assert oldest.seqno == repository.bookmarks()[0].seqno
    with Repository.open(path, owner=True) as again:
        assert again.check(read_data=True).damages == []


@pytest.mark.parametrize("which", [1, 3])
def test_points_that_go_while_status_looks(path: Path, which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest point is known, and a prune has given it up before its time is asked for. which: of the questions, that is."""
    rng, asked = random.Random(13), 0
    with opened(path, f"{SOON}\nkeep_last = 3") as repository:
        for number in range(2):
            grow(repository, rng, [f"{number}-{each}" for each in range(20)], 40)
            write_some(repository, rng, 200)
            repository.journal.commit()
            if number == 0:
                repository.prune()
        time_of = Journal.time_of

        def as_it_goes(self: Journal, seqno: int) -> int:
            nonlocal asked
            asked += 1
            if asked == which:
                repository.prune()
            return time_of(self, seqno)

        monkeypatch.setattr(Journal, "time_of", as_it_goes)
        status = repository.status()
        assert asked > which
        assert status.any_instant_from == repository.status().any_instant_from


def test_again_and_again(path: Path) -> None:
    """Rounds of writes and prunes: every preview comes true, no bookmark that stays changes, and the journal does not grow."""
    rng = random.Random(12)
    known: dict[tuple[str, str], str] = {}
    held = []
    with opened(path, f'{SOON}\nkeep_last = 4\n[retention.names."*7"]\nkeep_last = 2', "128K") as repository:
        for number in range(12):
            grow(repository, rng, [f"{number}-{each}" for each in range(10)], rng.randrange(10, 40))
            known |= {place: digest for place, digest in sums(repository).items() if place not in known}
            preview = repository.prune_preview()
            assert as_previewed(repository.prune(), preview)
            found = sums(repository)
            assert found == {place: known[place] for place in found}
            held.append(held_bytes(repository))
        assert max(held) < 4 * SIZE_BYTES, "both volumes whole, and what differs between those that stay"
        assert len(repository.journal.segments()) < 20


def test_ten_thousand_bookmarks(path: Path) -> None:
    with opened(path, f"{SOON}\nkeep_last = 100\nkeep_yearly = 5") as repository:
        parts = repository._parts
        repository.volume_add("db0", size_bytes=SIZE_BYTES)
        bodies = []
        for number in range(10_000):
            if number % 10 == 0:
                put(repository, "db0", number % 256 * 4096, number.to_bytes(4, "little") * 1024)
            seqno = parts.journal.facts().last_seqno
            bodies.append((BookmarkNamed(f"n{number}"), seqno))
        parts.record_all(RecordKind.BOOKMARK_ADD, bodies)
        write_some_of(repository, "db0", 200)
        before = content_at(repository, "db0", "n9950")
        preview = repository.prune_preview()
        result = repository.prune()
        assert as_previewed(result, preview)
        assert result.removed == 9900
        assert {bookmark.name for bookmark in repository.bookmarks()} == {
            fate.bookmark for fate in preview.bookmarks if fate.stays
        }
        assert content_at(repository, "db0", "n9950") == before


def write_some_of(repository: Repository, name: str, writes: int) -> None:
    for number in range(writes):
        put(repository, name, number % 256 * 4096, b"x" * 4096)
    repository.journal.commit()


def test_nothing_is_dropped_without_settings(path: Path) -> None:
    with opened(path, "") as repository:
        grow(repository, random.Random(1), names(30), 40)
        result = repository.prune()
        assert (result.removed, result.kept, result.freed_bytes, result.before) == (0, 30, 0, result.after)
        assert {reason for fate in result.bookmarks for reason in fate.reasons} == {"protection window", "no rule"}
        assert content_at(repository, "db0", "@500")


def test_an_empty_repository(path: Path) -> None:
    with opened(path, SOON) as repository:
        result = repository.prune()
        assert (result.time, result.bookmarks, result.before.oldest) == (None, [], None)
        assert repository.bookmark_space() == []


def test_before_the_window_other_instants_go(path: Path) -> None:
    with opened(path, SOON) as repository:
        grow(repository, random.Random(2), names(30), 40)
        write_some(repository, random.Random(3), 100)
        repository.journal.commit()
        preview = repository.prune_preview()
        repository.prune()
        bookmark = repository.bookmark("b010")
        assert content_at(repository, "db0", f"@{bookmark.seqno}") == content_at(repository, "db0", "b010")
        for point in (f"@{bookmark.seqno - 1}", f"@{bookmark.seqno + 1}"):
            with pytest.raises(PointGoneError):
                content_at(repository, "db0", point)
        with pytest.raises(PointGoneError):
            repository.bookmark_add("late", at=f"@{bookmark.seqno - 1}")
        with pytest.raises(PointGoneError):  # it was there when it was looked up
            bookmarks.add(repository._parts, BookmarkAdded("late"), bookmark.seqno - 1)
        assert repository.bookmark_add("again", at=f"@{bookmark.seqno}").seqno == bookmark.seqno
        assert preview.after.any_instant is not None
        for seqno in range(preview.after.any_instant.seqno, repository.journal.facts().committed_seqno):
            repository.journal.view(1, seqno).close()


def test_what_is_held_or_open_stays(path: Path) -> None:
    with opened(path, f"{SOON}\nkeep_last = 1") as repository:
        grow(repository, random.Random(4), names(30), 40)
        write_some(repository, random.Random(5), 100)
        repository.journal.commit()
        repository.bookmark_hold("b003", "audit")
        expected = content_at(repository, "db0", "b007")
        with Repository.open(path, owner=False) as reader, reader.view("db0", reader.resolve("b007")) as view:
            result = repository.prune()
            stay = {fate.bookmark: fate.reasons for fate in result.bookmarks if fate.stays}
            assert {"b003", "b007"} <= set(stay)
            assert (stay["b003"], stay["b007"]) == (["held"], ["open"])
            assert view.read(0, view.size_bytes) == expected
        repository.bookmark_release("b003")
        write_some(repository, random.Random(6), 10)
        result = repository.prune()
        assert {fate.bookmark for fate in result.bookmarks if not fate.stays} >= {"b003", "b007"}


def test_a_point_that_may_get_a_name_yet_stays(path: Path) -> None:
    """Of a bookmark over several repositories whose first cannot be asked."""
    with opened(path, f"{SOON}\nkeep_last = 1") as repository:
        grow(repository, random.Random(4), names(30), 40)
        seqno = repository.bookmark("b007").seqno - 5
        expected = content_at(repository, "db0", f"@{seqno}")
        repository._parts.reservations.pending["x"] = pending = Pending(
            id="x",
            name="n",
            since_ns=1,
            first_uuid="u",
            first_path="/p",
            seqno=seqno,
            time_ns=repository.journal.time_of(seqno),
        )
        write_some(repository, random.Random(5), 100)
        repository.journal.commit()
        repository.prune()
        assert content_at(repository, "db0", f"@{seqno}") == expected
        del repository._parts.reservations.pending[pending.id]
        repository.prune()
        with pytest.raises(PointGoneError):
            repository.resolve(f"@{seqno}")


def test_a_point_that_goes_while_it_is_read_is_read_to_its_end(path: Path) -> None:
    """It had no name when it was opened: it is a root as long as it is open."""
    with opened(path, f"{SOON}\nkeep_last = 1") as repository:
        grow(repository, random.Random(7), names(30), 40)
        write_some(repository, random.Random(8), 100)
        repository.journal.commit()
        expected = content_at(repository, "db0", "@300")
        with Repository.open(path, owner=False) as reader, reader.view("db0", reader.resolve("@300")) as view:
            half = view.read(0, SIZE_BYTES // 2)
            assert repository.prune().after.oldest is not None
            assert half + view.read(SIZE_BYTES // 2, SIZE_BYTES // 2) == expected
            with reader.view("db1", reader.resolve("@300")) as other:
                other.read(0, SIZE_BYTES)
        repository.prune()
        with pytest.raises(PointGoneError):
            repository.resolve("@300")


def test_what_is_held_between_deciding_and_doing_stays_and_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = prune_module._remove
    with opened(path, f"{SOON}\nkeep_last = 1") as repository:
        grow(repository, random.Random(9), names(20), 40)
        write_some(repository, random.Random(8), 100)
        repository.journal.commit()

        def hold_first(*arguments: object) -> list[str]:
            repository.bookmark_hold("b004")
            repository.bookmark_remove("b005")
            return remove(*arguments)  # type: ignore[arg-type]

        expected = content_at(repository, "db0", "b004")
        monkeypatch.setattr(prune_module, "_remove", hold_first)
        result = repository.prune()
        assert result.changed == ["b004"]
        assert next(fate for fate in result.bookmarks if fate.bookmark == "b004").stays
        assert content_at(repository, "db0", "b004") == expected
        assert result.removed + result.kept == 20


def test_the_largest_that_may_be(path: Path) -> None:
    """Bookmarks go, the oldest first, until journal and bases fit, and no more of them than that."""
    with opened(path, f'{SOON}\nkeep_last = 1000\nmaximum_size = "6M"') as repository:
        grow(repository, random.Random(10), names(60), 40)
        write_some(repository, random.Random(11), 100)
        repository.journal.commit()
        repository.bookmark_hold("b001")
        preview = repository.prune_preview()
        result = repository.prune()
        assert as_previewed(result, preview)
        assert result.fits
        gone = [fate.bookmark for fate in result.bookmarks if not fate.stays]
        assert gone == [name for name in names(60)[: len(gone) + 1] if name != "b001"]
        assert {fate.reasons[0] for fate in result.bookmarks if not fate.stays} == {"maximum size"}
        assert held_bytes(repository) <= 6 << 20
        assert 0 < len(gone) < 55
    with opened(path, f'{SOON}\nkeep_last = 1000\nmaximum_size = "64K"') as repository:
        write_some(repository, random.Random(11), 100)
        repository.journal.commit()
        assert not repository.prune_preview().fits
        assert not repository.prune().fits
        assert ["larger than maximum_size" in warning for warning in repository.status().warnings] == [True]


def test_names_that_went_are_told_though_the_store_then_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path, f"{SOON}\nkeep_last = 20") as repository:
        grow(repository, random.Random(14), names(30), 40)
        write_some(repository, random.Random(15), 100)
        repository.journal.commit()

        def fail(*_: object) -> None:
            raise StoreError("Input/output error")

        monkeypatch.setattr("vsnapfs.repository.compactable.compact", fail)
        with pytest.raises(StoreError):
            repository.prune()
        assert len(repository.bookmarks()) == 20
        told = [event for event in repository.events() if event.kind == "pruned"]
        assert [event.detail["removed"] for event in told] == [names(10)]
        assert repository.status().warnings == ["the last prune did less than it should have: Input/output error"]


def test_one_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()
    decide = prune_module._decide

    def wait(*arguments: object) -> object:
        began.set()
        go_on.wait(30)
        return decide(*arguments)  # type: ignore[arg-type]

    with opened(path, SOON) as repository:
        grow(repository, random.Random(12), names(3), 40)
        monkeypatch.setattr(prune_module, "_decide", wait)
        first = threading.Thread(target=repository.prune)
        first.start()
        began.wait(30)
        try:
            assert repository.status().compaction.running
            with pytest.raises(BusyError, match="being made already"):
                repository.prune()
        finally:
            go_on.set()
            first.join()
        assert not repository.status().compaction.running


def test_while_the_journal_is_rewritten_no_new_name_for_what_goes(path: Path) -> None:
    with opened(path, SOON) as repository:
        grow(repository, random.Random(13), names(3), 40)
        repository._parts.rewriting = Rewriting(100, frozenset({20}))
        with pytest.raises(BusyError, match="@30 is going"):
            repository.bookmark_add("x", at="@30")
        assert repository.bookmark_add("y", at="@20").seqno == 20
        assert repository.bookmark_add("z", at="@100").seqno == 100


def test_damage_stays_where_it_is_and_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path, f"{SOON}\nkeep_last = 3") as repository:
        grow(repository, random.Random(14), names(30), 40)
        write_some(repository, random.Random(15), 100)
        repository.journal.commit()

        def damaged(*_: object) -> None:
            raise CorruptExtentError("block 7 does not match its checksum")

        monkeypatch.setattr("vsnapfs.repository.compactable.compact", damaged)
        result = repository.prune()
        assert result.problems
        assert all("block 7" in problem for problem in result.problems)
        assert repository.status().compaction.problems == result.problems
        assert result.freed_bytes < result.predicted_bytes


def test_a_prune_that_fails_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path, f"{SOON}\nkeep_last = 1") as repository:
        grow(repository, random.Random(16), names(3), 10)

        def fail(*_: object) -> None:
            raise CorruptExtentError("nothing can be read")

        monkeypatch.setattr(Journal, "segments", fail)
        with pytest.raises(VsnapfsError):
            repository.prune()
        monkeypatch.undo()
        assert repository.status().compaction.problems == ["nothing can be read"]


def test_readers_do_not_prune(path: Path) -> None:
    with opened(path, f"{SOON}\nkeep_last = 1") as repository:
        grow(repository, random.Random(17), names(3), 10)
        preview = repository.prune_preview()
    with Repository.open(path, owner=False) as reader:
        assert reader.prune_preview().bookmarks == preview.bookmarks
        with pytest.raises(VsnapfsError, match="reading only"):
            reader.prune()


def test_what_each_takes(path: Path) -> None:
    """What is told to be given back without a bookmark is given back when it goes; names on one point give back nothing alone."""
    with opened(path, SOON) as repository:
        grow(repository, random.Random(18), names(20), 60)
        repository.bookmark_add("twin", at="b004")
        write_some(repository, random.Random(19), 100)
        repository.journal.commit()
        repository.prune()
        spaces = {space.bookmark: space for space in repository.bookmark_space()}
        assert list(spaces) == [bookmark.name for bookmark in repository.bookmarks()]
        assert (spaces["twin"].freed_bytes, spaces["b004"].freed_bytes) == (0, 0)
        assert spaces["b010"].freed_bytes > 0
        assert spaces["b010"].shared_bytes > spaces["b010"].freed_bytes
        before = prune_module._garbage_bytes(repository._parts)
        repository.bookmark_remove("b010")
        after = prune_module._garbage_bytes(repository._parts)
        assert before is not None
        assert after == before + spaces["b010"].freed_bytes


@pytest.mark.requires_root
def test_on_a_full_disk(memory_path: Path) -> None:
    """Writes are not journalled any more; a prune makes the room that closes the gap, then drops what was to go."""
    rng = random.Random(20)
    with mounted(Path("tmpfs"), memory_path / "small", options="size=16M", kind="tmpfs") as top:
        path = top / "r"
        Repository.create(path)
        with opened(path, f"{SOON}\nkeep_last = 3", reserve="2M") as repository:
            grow(repository, rng, ["first"], 10)
            with pytest.raises(NoSpaceError):
                grow(repository, rng, names(1000), 20)
            put(repository, "db0", 0, b"in the gap")
            assert repository.journal.facts().gap
            before = sums(repository)
            result = repository.prune()
            assert (result.kept, result.problems) == (3, [])
            assert result.freed_bytes > 4 << 20
            assert not repository.journal.facts().gap
            assert sums(repository) == {
                place: digest
                for place, digest in before.items()
                if place[0] in [fate.bookmark for fate in result.bookmarks if fate.stays]
            }
            assert repository.bookmark_add("after").seqno > 0
            assert content_at(repository, "db0", "after")[:10] == b"in the gap"
            assert repository.check(read_data=True).damages == []


def test_the_base_of_a_volume_that_is_gone_goes(path: Path, memory_path: Path) -> None:
    image = memory_path / "image"
    image.write_bytes(random.Random(1).randbytes(1 << 20))
    with opened(path, f"{SOON}\nkeep_last = 1") as repository:
        volume = repository.volume_add("old", primary=image)
        repository.bookmark_add("first")
        repository.volume_remove("old")
        grow(repository, random.Random(21), names(20), 40)
        write_some(repository, random.Random(22), 100)
        repository.journal.commit()
        held = held_bytes(repository)
        preview = repository.prune_preview()
        result = repository.prune()
        assert as_previewed(result, preview)
        assert result.freed_bytes > 1 << 20
        assert abs(held - held_bytes(repository) - result.freed_bytes) <= result.freed_bytes // 100
        assert not (path / "base" / f"{volume.id:08x}.img").exists()


def test_a_reader_that_lags_forgets_names_all_the_same(path: Path) -> None:
    """Events that removed names are dropped with those that made them, before it has read them."""
    rng = random.Random(23)
    with opened(path, f"{SOON}\nkeep_last = 2", "64K") as repository:
        grow(repository, rng, names(10), 20)
        with Repository.open(path, owner=False) as reader:
            assert len(reader.bookmarks()) == 10
            for number in range(5):
                grow(repository, rng, [f"{number}-{each}" for each in range(10)], 20)
                repository.prune()
            removals = [event for event in repository.journal.events() if event.kind == RecordKind.BOOKMARK_REMOVE]
            assert len(removals) < 58 - 20
            reader.refresh()
            assert reader.bookmarks() == repository.bookmarks()
            sums(reader)
    with Repository.open(path, owner=True) as again:
        assert again.check().damages == []
    assert list(path.glob("*.bad")) == []
