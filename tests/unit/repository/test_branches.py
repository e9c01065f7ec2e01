"""Branches in a repository: what is made, told, kept and deleted. What is read and written through them: tests/mount."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vsnapfs.binding.branch import Branch
from vsnapfs.core.errors import (
    BusyError,
    IntegrityError,
    NameTakenError,
    NameTooLongError,
    NotFoundError,
    PointGoneError,
    ReadOnlyError,
    StoreError,
    UsageError,
)
from vsnapfs.repository import branch_files, branch_told, branches
from vsnapfs.repository.layout import Layout
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

MIB = 1 << 20


@pytest.fixture
def filled(repository: Repository) -> Repository:
    """With volumes ``db`` and ``logs``, and bookmark ``a``."""
    repository.volume_add("db", size_bytes=4 * MIB)
    repository.volume_add("logs", size_bytes=MIB)
    repository.bookmark_add("a")
    return repository


def layers(path: Path) -> list[str]:
    return sorted(entry.name for entry in (path / "branches" / "layers").iterdir() if entry.is_dir())


def file_of(path: Path, name: str) -> Any:
    return json.loads((path / "branches" / f"{name}.json").read_text())


def change(path: Path, branch: str, **members: Any) -> None:
    place = path / "branches" / f"{branch}.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | members))


class TestAdd:
    def test_on_a_bookmark(self, filled: Repository) -> None:
        made = filled.branch_add("x", "a", quota_bytes=MIB, note="why")
        point = filled.resolve("a")
        assert (made.name, made.source, made.parent, made.bookmark) == ("x", "a", None, "a")
        assert (made.seqno, made.time) == (point.seqno, point.time)
        assert (made.quota_bytes, made.note, made.report, made.problem, made.in_use) == (MIB, "why", None, "", 0)
        assert (made.used_bytes, made.shared_bytes) == (0, 0)
        assert [(each.name, each.id, each.size_bytes) for each in made.volumes] == [
            ("db", 1, 4 * MIB),
            ("logs", 2, MIB),
        ]
        assert filled.branch("x") == made
        assert filled.branches() == [made]

    def test_has_the_volumes_and_sizes_of_its_point(self, filled: Repository) -> None:
        filled.volume_resize("db", 8 * MIB)
        filled.volume_remove("logs")
        filled.volume_add("later", size_bytes=MIB)
        made = filled.branch_add("x", "a")
        assert [(each.name, each.size_bytes) for each in made.volumes] == [("db", 4 * MIB), ("logs", MIB)]

    def test_on_a_point_without_a_name(self, filled: Repository) -> None:
        made = filled.branch_add("x", "@1")
        assert (made.seqno, made.bookmark, [each.name for each in made.volumes]) == (1, None, ["db"])

    def test_on_a_branch(self, filled: Repository) -> None:
        filled.branch_add("x", "a", quota_bytes=MIB, note="first")
        made = filled.branch_add("y", "branch:x")
        first = filled.branch("x")
        assert (made.parent, made.source, made.seqno, made.bookmark) == ("x", "branch:x", first.seqno, "a")
        assert (made.quota_bytes, made.note, made.volumes) == (None, "", first.volumes)
        assert made.id != first.id

    @pytest.mark.parametrize("name", ["", "..", "a/b", "-x", ".x", "a b", "x\n"])
    def test_a_bad_name(self, filled: Repository, name: str) -> None:
        with pytest.raises(UsageError):
            filled.branch_add(name, "a")
        assert filled.branches() == []

    def test_a_long_name(self, filled: Repository) -> None:
        assert filled.branch_add("n" * 127, "a").name == "n" * 127
        with pytest.raises(NameTooLongError):
            filled.branch_add("n" * 128, "a")

    def test_a_name_that_is_taken(self, filled: Repository) -> None:
        made = filled.branch_add("x", "a")
        with pytest.raises(NameTakenError, match="'x'"):
            filled.branch_add("x", "@1")
        assert filled.branches() == [made]

    @pytest.mark.parametrize("name", ["layers", "ids", "MANIFEST.json", "x.json", "latest", "x.part"])
    def test_a_name_that_looks_like_a_file_of_ours(self, filled: Repository, path: Path, name: str) -> None:
        filled.branch_add(name, "a")
        with Repository.open(path, owner=False) as reader:
            assert [branch.name for branch in reader.branches()] == [name]
        filled.branch_remove(name)
        assert filled.branches() == []

    @pytest.mark.parametrize("source", ["b", "branch:b", "branch:", "@99"])
    def test_a_source_that_is_not_there(self, filled: Repository, path: Path, source: str) -> None:
        with pytest.raises(NotFoundError):
            filled.branch_add("x", source)
        assert not (path / "branches").exists()

    def test_names_that_look_like_the_source_are_told(self, filled: Repository) -> None:
        filled.branch_add("monday", "a")
        with pytest.raises(NotFoundError, match="did you mean monday"):
            filled.branch_add("x", "branch:mondy")

    @pytest.mark.parametrize("quota_bytes", [0, -1, 1 << 63])
    def test_a_quota_that_is_none(self, filled: Repository, quota_bytes: int) -> None:
        with pytest.raises(UsageError, match="quota"):
            filled.branch_add("x", "a", quota_bytes=quota_bytes)

    @pytest.mark.parametrize("note", ["two\nlines", "n" * 4097])
    def test_a_note_that_cannot_be(self, filled: Repository, note: str) -> None:
        with pytest.raises(UsageError, match="note"):
            filled.branch_add("x", "a", note=note)

    def test_by_a_reader(self, filled: Repository, path: Path) -> None:
        with Repository.open(path, owner=False) as reader, pytest.raises(ReadOnlyError):
            reader.branch_add("x", "a")

    def test_a_bookmark_is_not_named_like_a_branch(self, filled: Repository) -> None:
        with pytest.raises(UsageError, match="branch"):
            filled.bookmark_add("branch:x")

    def test_whoever_does_not_know_branches_is_refused_from_the_first_on(self, filled: Repository, path: Path) -> None:
        assert json.loads((path / "repository.json").read_text())["features"] == []
        filled.branch_add("x", "a")
        assert json.loads((path / "repository.json").read_text())["features"] == ["branches"]

    def test_a_disk_that_is_full_leaves_nothing(
        self, filled: Repository, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        filled.branch_add("x", "a")
        before = layers(path)

        def full(*_: Any) -> None:
            raise StoreError("full")

        monkeypatch.setattr(branch_files, "write", full)
        with pytest.raises(StoreError, match="full"):
            filled.branch_add("y", "a")
        assert layers(path) == before
        assert [branch.name for branch in filled.branches()] == ["x"]


class TestIds:
    def test_no_id_is_given_twice(self, filled: Repository, path: Path) -> None:
        seen: set[int] = set()
        for _ in range(3):
            seen.add(filled.branch_add("x", "a").id)
            filled.branch_remove("x")
        with_gone = {file["branch"] for file in [json.loads((path / "branches/layers/ids.json").read_text())]}
        assert len(seen) == 3
        assert with_gone == {max(seen) + 1}

    def test_also_not_after_a_restart(self, path: Path) -> None:
        ids = set()
        for _ in range(3):
            with Repository.open(path, owner=True) as repository:
                if not repository.volumes():
                    repository.volume_add("db", size_bytes=MIB)
                ids.add(repository.branch_add("x", "@1").id)
                repository.branch_remove("x")
        assert len(ids) == 3

    @pytest.mark.parametrize("damage", [b"", b"{}", b'{"format": 1, "branch": 1, "layer": 1}', None])
    def test_without_the_file_those_that_are_there_are_passed_over(
        self, filled: Repository, path: Path, damage: bytes | None
    ) -> None:
        ids = path / "branches/layers/ids.json"
        first = filled.branch_add("x", "a")
        ids.unlink() if damage is None else ids.write_bytes(damage)
        second = filled.branch_add("y", "a")
        assert second.id > first.id
        assert set(file_of(path, "x")["layers"]).isdisjoint(file_of(path, "y")["layers"])


class TestOpen:
    def test_what_is_not_there(self, filled: Repository) -> None:
        made = filled.branch_add("x", "a")
        with pytest.raises(NotFoundError, match="did you mean x"):
            filled.branch_file("X", "db")
        with pytest.raises(NotFoundError, match="did you mean logs"):
            filled.branch_file("x", "log")
        with pytest.raises(NotFoundError, match="another"):
            filled.branch_file("x", "db", made.id + 1)
        assert filled.branch("x").in_use == 0


class TestRemove:
    def test_nothing_is_left(self, filled: Repository, path: Path) -> None:
        filled.branch_add("x", "a")
        filled.branch_add("y", "branch:x")
        for name in ("x", "y"):
            filled.branch_remove(name)
        assert filled.branches() == []
        assert sorted(entry.name for entry in (path / "branches").rglob("*")) == ["ids.json", "layers"]

    def test_one_that_is_not_there(self, filled: Repository) -> None:
        filled.branch_add("monday", "a")
        with pytest.raises(NotFoundError, match="did you mean monday"):
            filled.branch_remove("mondai")

    def test_one_that_is_open_stays(self, filled: Repository, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(branches, "CLOSE_WAIT_S", 0.0)
        filled.branch_add("x", "a")
        with (
            filled._parts.branches.opened(filled.branch("x").id, lambda: pytest.fail("it is open")),
            pytest.raises(BusyError, match="branch x is in use"),
        ):
            filled.branch_remove("x")
        assert [branch.name for branch in filled.branches()] == ["x"]
        assert len(layers(path)) == 1
        filled.branch_remove("x")

    def test_it_is_told(self, filled: Repository) -> None:
        filled.branch_add("x", "a", note="why")
        filled.branch_remove("x")
        told = [(event.kind, event.subject) for event in filled.events(kinds=["branch_added", "branch_removed"])]
        assert told == [("branch_added", "x"), ("branch_removed", "x")]
        (added,) = filled.events(kinds=["branch_added"])
        assert (added.detail["source"], added.detail["note"], added.detail["seqno"]) == (
            "a",
            "why",
            filled.resolve("a").seqno,
        )


class TestReport:
    def test_it_is_kept_over_a_restart(self, path: Path) -> None:
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db", size_bytes=MIB)
            repository.branch_add("x", "@1")
            repository.branch_report("x", {"old": 1})
            assert repository.branch_report("x", {"new": [1, {"a": None}]}).report == {"new": [1, {"a": None}]}
        with Repository.open(path, owner=False) as reader:
            assert reader.branch("x").report == {"new": [1, {"a": None}]}

    def test_one_that_is_too_long(self, filled: Repository) -> None:
        filled.branch_add("x", "a")
        with pytest.raises(UsageError, match="too long"):
            filled.branch_report("x", {"text": "n" * MIB})
        assert filled.branch("x").report is None

    @pytest.mark.parametrize(("depth", "kept"), [(99, True), (100, False), (995, False), (10_000, False)])
    def test_what_is_kept_can_be_read_again(self, path: Path, depth: int, kept: bool) -> None:
        """A branch whose file nobody can read any more would be lost."""
        report: dict[str, Any] = {}
        for _ in range(depth):
            report = {"a": report}
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db", size_bytes=MIB)
            repository.branch_add("x", "@1")
            if kept:
                repository.branch_report("x", report)
            else:
                with pytest.raises(UsageError, match="nested"):
                    repository.branch_report("x", report)
        with Repository.open(path, owner=True) as repository:
            assert repository.branch("x").problem == ""
            assert repository.branch("x").report == (report if kept else None)

    def test_a_branch_of_it_has_none(self, filled: Repository) -> None:
        filled.branch_add("x", "a")
        filled.branch_report("x", {"a": 1})
        assert filled.branch_add("y", "branch:x").report is None


class TestRestart:
    def test_all_is_as_it_was(self, path: Path) -> None:
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db", size_bytes=MIB)
            made = [repository.branch_add("x", "@1"), repository.branch_add("y", "branch:x")]
        for owner in (False, True):
            with Repository.open(path, owner=owner) as repository:
                assert repository.branches() == made

    def test_what_a_crash_left_is_deleted(self, path: Path) -> None:
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db", size_bytes=MIB)
            repository.branch_add("x", "@1")
        (kept,) = layers(path)
        left = path / "branches/layers/00000077"
        left.mkdir()
        (left / "00000001.data").write_bytes(b"d")
        (path / "branches/y.json.part").write_bytes(b"{")
        with Repository.open(path, owner=False) as reader:
            assert [branch.name for branch in reader.branches()] == ["x"]
        assert left.exists(), "a reader changes nothing"
        with Repository.open(path, owner=True) as repository:
            assert [(branch.name, branch.problem) for branch in repository.branches()] == [("x", "")]
        assert layers(path) == [kept]
        assert sorted(entry.name for entry in (path / "branches").iterdir()) == ["layers", "x.json"]


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no JSON": lambda _: "{",
    "no object": lambda _: [],
    "other type": lambda file: file | {"seqno": "1"},
    "a name that breaks the rule": lambda file: file | {"name": "../x"},
    "another's": lambda file: file | {"name": "z"},
    "no layer": lambda file: file | {"layers": []},
    "a layer twice": lambda file: file | {"layers": [3, 3]},
    "layer 0": lambda file: file | {"layers": [0]},
    "a layer over 32 bits": lambda file: file | {"layers": [1 << 32]},
    "too many layers": lambda file: file | {"layers": list(range(1, 67))},
    "seqno 0": lambda file: file | {"seqno": 0},
    "id 0": lambda file: file | {"id": 0},
    "id over 32 bits": lambda file: file | {"id": 1 << 32},
    "a quota of nothing": lambda file: file | {"quota_bytes": 0},
    "a time that cannot be": lambda file: file | {"created_ns": -1},
    "a volume twice": lambda file: file | {"volumes": file["volumes"] * 2},
    "a volume of no size": lambda file: file | {"volumes": [file["volumes"][0] | {"size_bytes": 0}]},
    "a volume with a bad name": lambda file: file | {"volumes": [file["volumes"][0] | {"name": "a/b"}]},
    "a newer format": lambda file: file | {"format": 2},
    "a member missing": lambda file: {name: value for name, value in file.items() if name != "volumes"},
}


class TestDamage:
    @pytest.fixture
    def two(self, path: Path) -> Path:
        """A repository with branches ``x`` and ``y``, closed."""
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db", size_bytes=MIB)
            repository.branch_add("x", "@1")
            repository.branch_add("y", "@1")
        return path

    @pytest.mark.parametrize("how", BROKEN)
    def test_a_file_that_cannot_be_understood(self, two: Path, how: str) -> None:
        """It is told, all else goes on, and what it may name stays until it is given up."""
        place = two / "branches/x.json"
        broken = BROKEN[how](json.loads(place.read_text()))
        place.write_text(broken if isinstance(broken, str) else json.dumps(broken))
        before = layers(two)
        with Repository.open(two, owner=True) as repository:
            x, y = repository.branches()
            assert (x.name, y.name, y.problem) == ("x", "y", "")
            assert "branches/x.json" in x.problem
            assert any(x.problem in warning for warning in repository.status().warnings)
            with pytest.raises(IntegrityError):
                repository.branch_file("x", "db")
            with pytest.raises(NameTakenError):
                repository.branch_add("x", "@1")
            repository.branch_add("w", "@1")
            repository.branch_remove("w")
            assert set(layers(two)) >= set(before)
            repository.branch_remove("x")
            assert [branch.name for branch in repository.branches()] == ["y"]
            assert [int(layer, 16) for layer in layers(two)] == file_of(two, "y")["layers"]

    @pytest.mark.parametrize("name", [b"\xff\xfe", b"a b", b"line\nend", b"", b"\\xff"])
    def test_a_file_whose_name_is_none(self, two: Path, name: bytes) -> None:
        """It is told in words that every answer can hold, and is given up by them."""
        place = Path(os.fsdecode(os.path.join(os.fsencode(two), b"branches", name + b".json")))
        shutil.copy(two / "branches/x.json", place)
        with Repository.open(two, owner=True) as repository:
            (odd,) = [branch for branch in repository.branches() if branch.name not in ("x", "y")]
            assert name.decode("ascii", "backslashreplace") == odd.name
            assert odd.problem
            msgspec.json.encode([repository.branches(), repository.status(), repository.check_branches()])
            repository.branch_remove(odd.name)
            assert [(branch.name, branch.problem) for branch in repository.branches()] == [("x", ""), ("y", "")]
        assert not os.path.lexists(place)

    def test_a_copy_of_a_file_under_another_name(self, two: Path) -> None:
        """Nobody writes to one layer for two branches."""
        change(two, "x", name="z", layers=file_of(two, "y")["layers"])
        (two / "branches/x.json").rename(two / "branches/z.json")
        with Repository.open(two, owner=True) as repository:
            assert [(branch.name, bool(branch.problem)) for branch in repository.branches()] == [
                ("y", True),
                ("z", True),
            ]
            with pytest.raises(IntegrityError, match="claims"):
                repository.branch_file("y", "db")
            repository.branch_remove("z")
            assert [(branch.name, branch.problem) for branch in repository.branches()] == [("y", "")]

    def test_a_layer_that_is_missing(self, two: Path) -> None:
        shutil.rmtree(two / f"branches/layers/{file_of(two, 'x')['layers'][0]:08x}")
        with Repository.open(two, owner=True) as repository:
            x, y = repository.branches()
            assert "missing" in x.problem
            assert y.problem == ""
            assert any("branch x" in warning for warning in repository.status().warnings)
            with pytest.raises(IntegrityError, match="missing"):
                repository.branch_file("x", "db")
            with pytest.raises(IntegrityError, match="missing"):
                repository.branch_add("z", "branch:x")
            repository.branch_remove("x")

    def test_a_branch_that_is_removed_while_others_look(self, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its layers are gone by then, and nothing is wrong with it."""
        with Repository.open(two, owner=True) as owner, Repository.open(two, owner=False) as reader:
            shutil.rmtree(two / f"branches/layers/{file_of(two, 'y')['layers'][0]:08x}")
            of_all = branch_files.missing_layer

            def as_x_goes(layout: Layout, file: branch_files.BranchFile) -> str | None:
                if file.name == "x" and (two / "branches/x.json").exists():
                    owner.branch_remove("x")
                return of_all(layout, file)

            monkeypatch.setattr(branch_files, "missing_layer", as_x_goes)
            warnings = reader.status().warnings
            assert [warning.partition(" needs ")[0] for warning in warnings if "branch" in warning] == ["branch y"]

    def test_a_branch_that_is_added_while_others_look(self, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Repository.open(two, owner=True) as owner, Repository.open(two, owner=False) as reader:
            of_all = branches.known

            def as_z_comes(parts: Parts) -> branch_files.Found:
                found = of_all(parts)
                if not (two / "branches/z.json").exists():
                    owner.branch_add("z", "branch:x")
                return found

            monkeypatch.setattr(branch_told, "known", as_z_comes)
            assert reader.branch("z").source == "branch:x"

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_branch_that_is_removed_while_it_is_opened(
        self, two: Path, moment: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some of what is written to it may have been deleted before it was opened."""
        with Repository.open(two, owner=True) as owner, Repository.open(two, owner=False) as reader:
            to_open = branches._open_as

            def as_it_goes(parts: Parts, file: branch_files.BranchFile) -> Branch:
                if moment == "before":
                    owner.branch_remove("x")
                opened = to_open(parts, file)
                owner.branch_remove("x")
                return opened

            monkeypatch.setattr(branches, "_open_as", as_it_goes)
            with pytest.raises(NotFoundError, match="'x'"):
                reader.branch("x")
            assert [branch.name for branch in reader.branches()] == ["y"]

    def test_a_volume_that_the_point_does_not_have(self, two: Path) -> None:
        change(two, "x", volumes=[{"name": "other", "id": 9, "size_bytes": MIB}])
        with Repository.open(two, owner=True) as repository:
            assert "other" in repository.branch("x").problem


class TestPoints:
    def retained(self, path: Path) -> None:
        """Nothing stays but what has to."""
        (path / "vsnapfs.toml").write_text(
            '[journal]\nsegment_size = "64K"\n[retention]\nprotection_window = "1ns"\nkeep_last = 1\nminimum_age = "1ns"\n'
        )

    def write(self, repository: Repository, count: int = 20) -> None:
        for block in range(count):
            repository.journal.write(1, block * 4096, bytes([block + 1]) * 4096)
        repository.journal.commit()
        repository.journal.seal()

    def test_a_prune_takes_no_point_that_a_branch_stands_on(self, path: Path) -> None:
        self.retained(path)
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db", size_bytes=MIB)
            self.write(repository)
            repository.bookmark_add("named")
            self.write(repository)
            repository.branch_add("x", "named")
            nameless = repository.branch_add("y", "-0s").seqno
            for name in ("gone", "newest"):
                self.write(repository)
                repository.bookmark_add(name)
            self.write(repository)
        with Repository.open(path, owner=True) as repository:  # which has no branch open
            preview = {fate.bookmark: fate for fate in repository.prune_preview().bookmarks}
            assert (preview["named"].stays, preview["named"].reasons) == (True, ["branch x"])
            repository.prune()
            assert [bookmark.name for bookmark in repository.bookmarks()] == ["named", "newest"]
            for seqno in (repository.branch("x").seqno, nameless):
                with repository.view("db", repository.resolve(f"@{seqno}")) as view:
                    assert view.read(0, 4096) == b"\1" * 4096
            with pytest.raises(PointGoneError):
                repository.resolve(f"@{nameless + 1}")
            assert [branch.problem for branch in repository.branches()] == ["", ""]
            for name in ("x", "y"):
                repository.branch_remove(name)
            repository.prune()
            assert [bookmark.name for bookmark in repository.bookmarks()] == ["newest"]
            assert repository.journal.facts().first_seqno > nameless

    def test_a_bookmark_may_go_and_says_who_keeps_the_point(self, filled: Repository) -> None:
        for name in ("y", "x"):
            filled.branch_add(name, "a")
        seqno = filled.resolve("a").seqno
        assert filled.bookmark_remove("a") == ["x", "y"]
        (told,) = filled.events(kinds=["bookmark_removed"])
        assert told.detail["branches"] == ["x", "y"]
        assert (filled.branch("x").seqno, filled.branch("x").bookmark, filled.branch("x").problem) == (seqno, "a", "")
        assert filled.bookmark_add("b").name == "b"
        assert filled.bookmark_remove("b") == []


def test_layers_that_are_no_layers_are_left_alone(path: Path) -> None:
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=MIB)
        repository.branch_add("x", "@1")
        (path / "branches/layers/notes").mkdir()
        repository.branch_remove("x")
        assert layers(path) == ["notes"]


def test_a_directory_of_files_is_removed_and_one_of_directories_is_not(memory_path: Path) -> None:
    layout = Layout(memory_path)
    try:
        (memory_path / "a/b").mkdir(parents=True)
        with pytest.raises(StoreError):
            layout.remove_directory("a")
        (memory_path / "c").mkdir()
        (memory_path / "c/file").write_bytes(b"f")
        layout.remove_directory("c")
        layout.remove_directory("c")
        assert sorted(entry.name for entry in memory_path.iterdir()) == ["a"]
    finally:
        layout.close()
