"""Every command, without a server: what it prints for people and for programs, and how it fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.cli.conftest import Command
from vsnapfs import __version__
from vsnapfs.core import findings, keeping, model, state
from vsnapfs.daemon import requests
from vsnapfs.daemon.export import Exported
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

TOP = Path(__file__).parents[3]
MIB = 1 << 20
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def assert_shape(found: Any, kind: type[Any]) -> Any:
    """``found`` has exactly the members of ``kind``, and their types. Returns it as one."""
    value = msgspec.convert(found, kind)
    assert msgspec.json.decode(msgspec.json.encode(value)) == found
    return value


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """1 MiB, of which the first 8 KiB are data."""
    path = tmp_path / "image"
    path.write_bytes(os.urandom(8192) + bytes(MIB - 8192))
    return path


@pytest.fixture
def imported(vsnapfs: Command, image: Path) -> Path:
    """Volume db at bookmark a; then its second 4 KiB changed, at bookmark b. Returns what it is at b."""
    assert vsnapfs("import", f"db={image}", "--bookmark", "a").status == 0
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), b"x" * 4096, 4096)
    assert vsnapfs("import", f"db={image}", "--bookmark", "b").status == 0
    return image


class TestGlobal:
    def test_version(self, vsnapfs: Command) -> None:
        assert vsnapfs("--version").out == f"vsnapfs {__version__}\n"

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_the_repository_by_option_wins_over_the_environment(
        self, vsnapfs: Command, tmp_path: Path, place: str
    ) -> None:
        other = ["--repo", str(tmp_path / "other")]
        words = [*other, "init", "--json"] if place == "before" else ["init", "--json", *other]
        assert vsnapfs(*words).json()["repository"] == str(tmp_path / "other")

    def test_a_relative_repository(self, vsnapfs: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert vsnapfs("-r", "new", "--json", "init").json()["repository"] == str(tmp_path / "new")

    @pytest.mark.parametrize(
        ("make", "status"),
        [(lambda path: None, 3), (lambda path: path.mkdir(), 3), (lambda path: path.touch(), 10)],
        ids=["missing", "empty", "a file"],
    )
    def test_no_repository(self, vsnapfs: Command, tmp_path: Path, make: Any, status: int) -> None:
        make(tmp_path / "x")
        before = sorted(tmp_path.rglob("*"))
        for words in (["status"], ["bookmark", "add", "a"], ["volume", "list"], ["check"], ["diff", "a", "b"]):
            done = vsnapfs("-r", tmp_path / "x", *words)
            assert (done.status, done.out, done.err.count("\n")) == (status, "", 1), words
        assert sorted(tmp_path.rglob("*")) == before

    def test_an_empty_path_is_wrong_usage(self, vsnapfs: Command) -> None:
        assert vsnapfs("-r", "", "status").status == 2


class TestInit:
    def test_it_says_what_it_made(self, vsnapfs: Command, tmp_path: Path) -> None:
        done = vsnapfs("-r", tmp_path / "new", "init")
        assert (done.status, done.out) == (0, f"made repository {tmp_path / 'new'}\n")

    def test_json(self, vsnapfs: Command, tmp_path: Path) -> None:
        made = vsnapfs("-r", tmp_path / "new", "init", "--json").json()
        with Repository.open(tmp_path / "new", owner=False) as repository:
            assert made == {"repository": str(tmp_path / "new"), "uuid": repository.uuid}

    def test_a_directory_that_is_not_empty(self, vsnapfs: Command, tmp_path: Path) -> None:
        (tmp_path / "mine").touch()
        done = vsnapfs("-r", tmp_path, "init")
        assert (done.status, os.listdir(tmp_path)) == (2, ["mine"])


class TestVolume:
    def test_add_and_list_thin(self, vsnapfs: Command) -> None:
        added = assert_shape(vsnapfs("volume", "add", "db0", "--size", "1.5M", "--json").json(), model.Volume)
        assert (added.size_bytes, added.primary, added.base, added.block_size_bytes) == (
            3 * MIB // 2,
            "repository",
            False,
            512,
        )
        listed = assert_shape(vsnapfs("volume", "list", "--json").json(), requests.Volumes)
        assert listed.volumes == [added]
        heads, row = vsnapfs("volume", "list").out.splitlines()
        assert heads.split() == ["NAME", "SIZE", "BLOCK", "ADDED", "PRIMARY"]
        assert row.split() == ["db0", "1.5", "MiB", "512", "@1", added.primary_path]

    def test_add_says_what_it_did(self, vsnapfs: Command) -> None:
        assert vsnapfs("volume", "add", "db0", "--size", "10G").out.startswith("added volume db0: 10 GiB, /")

    def test_add_an_existing_image(self, vsnapfs: Command, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(image.parent)
        added = vsnapfs("volume", "add", "db0", "--primary", "image", "--block-size", "4096", "--json").json()
        volume = assert_shape(added, model.Volume)
        assert (volume.primary, volume.primary_path, volume.base) == ("path", str(image), True)
        assert volume.block_size_bytes == 4096

    @pytest.mark.parametrize(
        ("words", "status", "text"),
        [
            (["a"], 2, "give --size SIZE or --primary PATH"),
            (["a", "--size", "1M", "--primary", "/dev/null"], 2, "give --size SIZE or --primary PATH"),
            (["a", "--size", "1X"], 2, "'1X' is not a size"),
            (["a", "--size", "0"], 2, "0"),
            (["../a", "--size", "1M"], 2, "a name is 1 to 127 of"),
            (["a" * 128, "--size", "1M"], 2, "too long"),
            (["MANIFEST.json", "--size", "1M"], 2, "cannot name a volume"),
            (["taken", "--size", "1M"], 5, "taken"),
            (["a", "--primary", "/nix"], 3, "/nix"),
            (["a", "--size", "1M", "--block-size", "1000"], 2, "'1000' is not one of"),
        ],
    )
    def test_add_refuses(self, vsnapfs: Command, words: list[str], status: int, text: str) -> None:
        vsnapfs("volume", "add", "taken", "--size", "1M")
        before = vsnapfs("volume", "list", "--json").out
        done = vsnapfs("volume", "add", *words)
        assert (done.status, text in done.err, done.err.count("\n")) == (status, True, 1), done
        assert vsnapfs("volume", "list", "--json").out == before

    def test_resize(self, vsnapfs: Command) -> None:
        vsnapfs("volume", "add", "db0", "--size", "1M")
        assert vsnapfs("volume", "resize", "db0", "2M").out == "resized volume db0 to 2 MiB\n"
        resized = assert_shape(vsnapfs("volume", "resize", "db0", "4096", "--json").json(), model.Volume)
        assert resized.size_bytes == 4096
        assert vsnapfs("volume", "resize", "db0", "lots").status == 2
        assert vsnapfs("volume", "resize", "db1", "1M").err == "vsnapfs: there is no volume 'db1'; did you mean db0?\n"

    def test_remove(self, vsnapfs: Command) -> None:
        vsnapfs("volume", "add", "db0", "--size", "1M")
        vsnapfs("bookmark", "add", "before")
        assert vsnapfs("volume", "remove", "db0").out == "removed volume db0; its history stays\n"
        assert vsnapfs("volume", "list", "--json").json() == {"volumes": []}
        [removed] = vsnapfs("volume", "list", "--removed", "--json").json()["volumes"]
        assert (removed["name"], removed["removed"]) == ("db0", True)
        assert "removed" in vsnapfs("volume", "list", "--removed").out
        [then] = vsnapfs("volume", "list", "--at", "before", "--json").json()["volumes"]
        assert (then["name"], then["removed"]) == ("db0", False)
        assert vsnapfs("volume", "remove", "db0").status == 3

    def test_resync(self, vsnapfs: Command, image: Path) -> None:
        vsnapfs("volume", "add", "db0", "--primary", image)
        with image.open("r+b") as file:
            os.pwrite(file.fileno(), b"y" * 4096, 65536)
        found = assert_shape(vsnapfs("volume", "resync", "db0", "--json").json(), requests.Resynced)
        assert found == requests.Resynced(volume="db0", changed_bytes=4096)
        assert vsnapfs("volume", "resync", "db0").out == "resynced volume db0: 0 B differed\n"


class TestBookmark:
    def test_add_and_list(self, vsnapfs: Command) -> None:
        options = ["--app", "postgres", "--note", "before the upgrade", "--consistency", "filesystem"]
        added = assert_shape(vsnapfs("bookmark", "add", "monday", *options, "--json").json(), model.Bookmark)
        assert (added.name, added.application, added.note) == ("monday", "postgres", "before the upgrade")
        assert added.consistency == "filesystem"
        listed = assert_shape(vsnapfs("bookmark", "list", "--json").json(), requests.Bookmarks)
        assert listed.bookmarks == [added]
        heads, row = vsnapfs("bookmark", "list").out.splitlines()
        assert heads.split() == ["NAME", "POINT", "TIME", "CONSISTENCY", "APP", "HELD", "VERIFIED", "NOTE"]
        assert re.fullmatch(rf"monday  @1     {TIME}  filesystem   postgres  -     -         before the upgrade", row)

    def test_add_says_where(self, vsnapfs: Command) -> None:
        assert re.fullmatch(rf"added bookmark monday at @1, {TIME}\n", vsnapfs("bookmark", "add", "monday").out)

    @pytest.mark.parametrize("point", ["@1", "one", "-0s", "{time}"])
    def test_a_past_point(self, vsnapfs: Command, point: str) -> None:
        one = vsnapfs("bookmark", "add", "one", "--json").json()
        past = vsnapfs("bookmark", "add", "past", "--at", point.format(time=one["time"]), "--json").json()
        assert (past["seqno"], past["created_seqno"] > past["seqno"]) == (1, True)

    @pytest.mark.parametrize(
        ("words", "status", "text"),
        [
            (["taken"], 5, "'taken'"),
            (["latest"], 2, "reads as another form of point"),
            (["2026-11-23"], 2, "reads as another form of point"),
            (["a b"], 2, "a name is 1 to 127 of"),
            (["a/b"], 2, "a name is 1 to 127 of"),
            (["-5min"], 2, "a name is 1 to 127 of"),
            (["a", "--at", "takn"], 3, "did you mean taken?"),
            (["a", "--at", "@99"], 3, "outside the window"),
            (["a", "--at", "-1w"], 3, "outside the window"),
            (["a", "--at", "1970-01-02"], 3, "outside the window"),
            (["a", "--at", "2026-13-01"], 2, "is not a time"),
            (["a", "--at", "a b"], 2, "is not a point"),
            (["a", "--at", "-5parsec"], 2, "is not a point"),
            (["a", "--consistency", "perfect"], 2, "'perfect' is not one of"),
            (["a", "--note", "two\nlines"], 2, "cannot be printed"),
        ],
    )
    def test_add_refuses(self, vsnapfs: Command, words: list[str], status: int, text: str) -> None:
        vsnapfs("bookmark", "add", "taken")
        before = vsnapfs("bookmark", "list", "--json").out
        done = vsnapfs("bookmark", "add", *words)
        assert (done.status, text in done.err, done.err.count("\n")) == (status, True, 1), done
        assert vsnapfs("bookmark", "list", "--json").out == before

    def test_show(self, vsnapfs: Command, imported: Path) -> None:
        shown = assert_shape(vsnapfs("bookmark", "show", "b", "--json").json(), requests.BookmarkContent)
        assert shown.bookmark.name == "b"
        assert [(v.name, v.size_bytes, v.data_bytes) for v in shown.volumes] == [("db", MIB, 8192)]
        text = vsnapfs("bookmark", "show", "b").out
        assert "consistency: crash\n" in text
        assert re.search(rf"^db +1 MiB +8 KiB +@\d+ +{TIME}$", text, re.MULTILINE)
        assert vsnapfs("bookmark", "show", "c").status == 3

    def test_hold_release_remove(self, vsnapfs: Command) -> None:
        vsnapfs("bookmark", "add", "monday")
        held = assert_shape(vsnapfs("bookmark", "hold", "monday", "--note", "audit", "--json").json(), model.Bookmark)
        assert (held.held, held.hold_note) == (True, "audit")
        assert vsnapfs("bookmark", "list").out.splitlines()[1].split()[5] == "held"
        assert "held:        audit\n" in vsnapfs("bookmark", "show", "monday").out
        refused = vsnapfs("bookmark", "remove", "monday")
        assert (refused.status, "audit" in refused.err) == (5, True)
        assert vsnapfs("bookmark", "release", "monday", "--json").json()["held"] is False
        assert vsnapfs("bookmark", "remove", "monday").out.startswith("removed bookmark monday at @1")
        assert vsnapfs("bookmark", "list", "--json").json()["bookmarks"] == []

    def test_a_hold_that_ends(self, vsnapfs: Command) -> None:
        vsnapfs("bookmark", "add", "monday")
        held = vsnapfs("bookmark", "hold", "monday", "--until", "2100-01-01T00:00Z", "--note", "audit")
        assert held.out.endswith(", until 2100-01-01T00:00:00.000Z\n")
        assert "until 2100-01-01T00:00:00.000Z" in vsnapfs("bookmark", "list").out
        assert "held:        audit, until 2100-01-01T00:00:00.000000000Z\n" in vsnapfs("bookmark", "show", "monday").out
        until = vsnapfs("bookmark", "hold", "monday", "--for", "30d", "--json").json()["hold_until_ns"]
        assert 0 <= time.time_ns() + 30 * 86400 * 10**9 - until < 60 * 10**9
        both = vsnapfs("bookmark", "hold", "monday", "--for", "30d", "--until", "2100-01-01")
        assert (both.status, "give one of them" in both.err) == (2, True)
        assert vsnapfs("bookmark", "hold", "monday", "--for", "soon").status == 2

    @pytest.mark.parametrize("verb", ["show", "remove", "hold", "release"])
    def test_an_unknown_bookmark_gets_near_names(self, vsnapfs: Command, verb: str) -> None:
        vsnapfs("bookmark", "add", "monday")
        done = vsnapfs("bookmark", verb, "mondai")
        assert (done.status, done.err) == (3, "vsnapfs: there is no bookmark 'mondai'; did you mean monday?\n")


class TestPrune:
    def test_preview_and_prune(self, vsnapfs: Command, repository: Path) -> None:
        (repository / "vsnapfs.toml").write_text('[retention]\nprotection_window = "1ns"\nkeep_last = 2\n')
        for name in ("a", "b", "c", "d"):
            vsnapfs("bookmark", "add", name)
        preview = vsnapfs("prune", "--dry-run")
        assert [line.split()[0:4:3] for line in preview.out.splitlines()[1:5]] == [
            ["a", "goes"],
            ["b", "goes"],
            ["c", "stays"],
            ["d", "stays"],
        ]
        assert "2 bookmarks stay, 2 would go\n" in preview.out
        assert "would be given back" in preview.out
        assert len(vsnapfs("bookmark", "list", "--json").json()["bookmarks"]) == 4
        said = assert_shape(vsnapfs("prune", "--dry-run", "--json").json(), keeping.Prune)
        done = assert_shape(vsnapfs("prune", "--json").json(), keeping.Prune)
        assert (done.bookmarks, done.removed, done.dry_run) == (said.bookmarks, 2, False)
        assert [each["name"] for each in vsnapfs("bookmark", "list", "--json").json()["bookmarks"]] == ["c", "d"]
        assert "0 are gone" in vsnapfs("prune").out

    def test_space(self, vsnapfs: Command) -> None:
        vsnapfs("bookmark", "add", "a")
        assert vsnapfs("bookmark", "list", "--space").out.splitlines()[1].split() == ["a", "0", "B", "0", "B"]
        [space] = vsnapfs("bookmark", "list", "--space", "--json").json()["spaces"]
        assert_shape(space, keeping.Space)
        shown = vsnapfs("bookmark", "show", "a", "--space")
        assert "freed:       0 B if it is removed\nshared:      0 B with others\n" in shown.out
        assert vsnapfs("bookmark", "show", "a", "--space", "--json").json()["space"] == space
        assert vsnapfs("bookmark", "show", "a", "--json").json()["space"] is None


class TestImport:
    def test_a_new_volume_and_a_change(self, vsnapfs: Command, imported: Path) -> None:
        [volume] = vsnapfs("volume", "list", "--json").json()["volumes"]
        assert (volume["name"], volume["primary"], volume["primary_path"]) == ("db", "none", None)
        [diff] = vsnapfs("diff", "a", "b", "--json").json()["diffs"]
        assert diff["changed_bytes"] == 4096

    def test_it_says_what_it_made(self, vsnapfs: Command, image: Path) -> None:
        done = vsnapfs("import", f"db={image}", "--bookmark", "a")
        assert re.fullmatch(rf"imported as bookmark a at @\d+, {TIME}\n", done.out)
        assert_shape(vsnapfs("import", f"db={image}", "--bookmark", "b", "--json").json(), model.Bookmark)

    @pytest.mark.parametrize(
        ("words", "status", "text"),
        [
            ([], 2, "missing argument"),
            (["db"], 2, "'db' is not VOLUME=IMAGE"),
            (["db="], 2, "'db=' is not VOLUME=IMAGE"),
            (["=x"], 2, "'=x' is not VOLUME=IMAGE"),
            (["db=/nix"], 3, "/nix"),
            (["db={image}", "db={image}"], 2, "volume 'db' is given twice"),
            (["d/b={image}"], 2, "a name is 1 to 127 of"),
        ],
    )
    def test_it_refuses(self, vsnapfs: Command, image: Path, words: list[str], status: int, text: str) -> None:
        done = vsnapfs("import", *(word.format(image=image) for word in words), "--bookmark", "a")
        assert (done.status, text in done.err, done.err.count("\n")) == (status, True, 1), done
        assert vsnapfs("volume", "list", "--json").json() == {"volumes": []}
        assert vsnapfs("bookmark", "list", "--json").json()["bookmarks"] == []

    def test_the_bookmark_is_taken(self, vsnapfs: Command, imported: Path) -> None:
        assert vsnapfs("import", f"db={imported}", "--bookmark", "a").status == 5


class TestDiffAndExport:
    def test_diff(self, vsnapfs: Command, imported: Path) -> None:
        found = assert_shape(vsnapfs("diff", "a", "b", "db", "--json").json(), requests.Diffs)
        [diff] = found.diffs
        assert diff.extents == [model.Extent(offset_bytes=4096, length_bytes=4096, zero=False)]
        title, heads, row = vsnapfs("diff", "a", "b").out.splitlines()
        assert title == f"db: 4 KiB in 1 extents changed from @{diff.since.seqno} to @{diff.until.seqno}"
        assert (heads.split(), row.split()) == (["OFFSET", "LENGTH", "NOW"], ["4096", "4096", "data"])
        assert vsnapfs("diff", "b", "b").out.splitlines()[0].startswith("db: 0 B in 0 extents")

    def test_points_that_begin_with_a_dash(self, vsnapfs: Command, imported: Path) -> None:
        assert vsnapfs("diff", "a", "-0s", "--json").json() == vsnapfs("diff", "--json", "--", "a", "-0s").json()
        assert vsnapfs("diff", "-1w", "b").status == 3
        assert vsnapfs("volume", "list", "--at", "-0s", "--json").json()["volumes"]

    @pytest.mark.parametrize(
        ("words", "status"), [("a c", 3), ("a b dd", 3), ("b a", 2), ("a", 2), ("a @99", 3), ("a b db extra", 2)]
    )
    def test_diff_refuses(self, vsnapfs: Command, imported: Path, words: str, status: int) -> None:
        done = vsnapfs("diff", *words.split())
        assert (done.status, done.out, done.err.count("\n")) == (status, "", 1)

    def test_export(self, vsnapfs: Command, imported: Path, tmp_path: Path) -> None:
        done = vsnapfs("export", "b", "db", "--to", tmp_path / "out")
        assert re.fullmatch(rf"exported db at @\d+ to {tmp_path / 'out'}, 1 MiB\n", done.out)
        assert (tmp_path / "out").read_bytes() == imported.read_bytes()

    def test_export_json(self, vsnapfs: Command, imported: Path, tmp_path: Path) -> None:
        done = vsnapfs("export", "b", "db", "--since", "a", "--to", tmp_path / "out.tar", "--json")
        exported = assert_shape(done.json(), Exported)
        assert (exported.since.bookmark, exported.point.bookmark, exported.size_bytes) == ("a", "b", MIB)
        with tarfile.open(tmp_path / "out.tar") as tar:
            assert [(member.name, member.size) for member in tar][1] == ("db.extents", 4096)

    def test_export_to_standard_output(self, vsnapfs: Command, imported: Path, repository: Path) -> None:
        command = [sys.executable, "-m", "vsnapfs.cli", "export", "b", "db", "--to", "-"]
        environment = {**os.environ, "PYTHONPATH": str(TOP)}
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert done.stdout == imported.read_bytes()
        assert done.stderr.startswith(b"exported db at @")

    def test_export_refuses(self, vsnapfs: Command, imported: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        assert vsnapfs("export", "b", "db", "--to", tmp_path / "out").status == 5
        assert (tmp_path / "out").read_text() == "mine"
        assert vsnapfs("export", "b", "db", "--to", tmp_path / "out", "--force").status == 0
        assert vsnapfs("export", "b", "db", "--to", "-", "--json").status == 2
        assert vsnapfs("export", "bb", "db", "--to", tmp_path / "new").status == 3
        assert vsnapfs("export", "b", "dbb", "--to", tmp_path / "new").status == 3
        assert not (tmp_path / "new").exists()

    def test_export_into_a_closed_pipe(self, vsnapfs: Command, imported: Path) -> None:
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "vsnapfs.cli", "export", "b", "db", "--to", "-"]
        environment = {**os.environ, "PYTHONPATH": str(TOP)}
        try:
            done = subprocess.run(command, env=environment, stdout=write, stderr=subprocess.PIPE, check=False)
        finally:
            os.close(write)
        assert (done.returncode, done.stderr.count(b"\n"), b"Broken pipe" in done.stderr) == (1, 1, True)


class TestStatusAndCheck:
    def test_status_of_an_empty_repository(self, vsnapfs: Command, repository: Path) -> None:
        status = assert_shape(vsnapfs("status", "--json").json(), state.Status)
        assert (status.repository, status.protected, status.window_first) == (str(repository), True, None)
        assert "window:     nothing yet to nothing yet\n" in vsnapfs("status").out

    def test_status_exits_8_when_not_protected(self, vsnapfs: Command) -> None:
        vsnapfs("volume", "add", "db0", "--size", "1M")
        done = vsnapfs("status")
        assert done.status == 8
        assert "protected:  NO\n" in done.out
        assert re.search(r"^problem:    no server runs", done.out, re.MULTILINE)
        assert json.loads(vsnapfs("status", "--json").out)["protected"] is False

    def test_check(self, vsnapfs: Command, imported: Path) -> None:
        found = assert_shape(vsnapfs("check", "--read-data", "--json").json(), findings.Check)
        assert found.damages == []
        assert re.fullmatch(r"checked 1 segments, 0 maps, 0 bases, .* read: 0 damaged\n", vsnapfs("check").out)

    def test_check_finds_damage_and_says_whom_it_costs(self, vsnapfs: Command, repository: Path, image: Path) -> None:
        """A bit of the payload of a sealed segment."""
        (repository / "vsnapfs.toml").write_text('[journal]\nsegment_size = "64K"\n')
        for bookmark, letter in (("a", b"x"), ("b", b"y"), ("c", b"z")):
            image.write_bytes(letter * 4096 + os.urandom(2**17))
            vsnapfs("import", f"db={image}", "--bookmark", bookmark)
        segment, at = find_payload(repository, b"y" * 4096)
        with segment.open("r+b") as file:
            os.pwrite(file.fileno(), b"Y", at + 100)  # the byte before the block may be a y too
        assert vsnapfs("check").status == 0
        done = vsnapfs("check", "--read-data")
        assert done.status == 6
        assert f"journal/{segment.name} at byte " in done.out
        assert "  costs b/db\n" in done.out
        assert "costs a/db" not in done.out
        assert "costs c/db" not in done.out
        assert done.out.endswith(": 1 damaged\n")

    def test_check_repairs_what_is_derived(self, vsnapfs: Command, imported: Path, repository: Path) -> None:
        (repository / "catalog.db").write_bytes(b"not SQLite" * 1000)
        done = vsnapfs("check", "--repair")
        assert done.status == 0, done
        assert vsnapfs("bookmark", "list").out.count("\n") == 3


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_script_of_each_shell(self, vsnapfs: Command, shell: str) -> None:
        assert "_VSNAPFS_COMPLETE" in vsnapfs("completion", shell).out
        assert vsnapfs("completion", shell, "--json").json()["shell"] == shell

    def test_bash_completes_commands_and_names(self, vsnapfs: Command) -> None:
        vsnapfs("bookmark", "add", "monday")
        assert completions("vsnapfs book") == ["bookmark"]
        assert completions("vsnapfs bookmark show m") == ["monday"]
        assert completions("vsnapfs diff m") == ["monday"]
        assert completions("vsnapfs bookmark add x --at l") == ["latest"]
        assert "--read-data" in completions("vsnapfs check --r")


def find_payload(repository: Path, block: bytes) -> tuple[Path, int]:
    """The segment that holds a block, and where."""
    for segment in sorted((repository / "journal").glob("*.seg")):
        at = segment.read_bytes().find(block)
        if at >= 0:
            return segment, at
    raise AssertionError("no segment holds it")


def completions(line: str) -> list[str]:
    """What bash would offer at the end of the line."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "PYTHONPATH": str(TOP),
        "_VSNAPFS_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    command = [sys.executable, "-m", "vsnapfs.cli"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [item.partition(",")[2] for item in done.stdout.splitlines()]
