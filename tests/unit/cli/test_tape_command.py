"""``tape`` by the command: what it says, with which status, and what becomes of tapes."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Command
from vsnapfs.core.errors import IntegrityError, NotFoundError, StoreError
from vsnapfs.media.pool_tape import PoolTape
from vsnapfs.media.tape import TapeReader
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.tapes import shelf

pytestmark = pytest.mark.unit

VOLUME_BYTES = 1 << 20


@pytest.fixture
def vault(repository: Path) -> Path:
    """A pool in the settings of the repository, which has two bookmarks."""
    top = repository.parent / "vault"
    top.mkdir()
    with (repository / "vsnapfs.toml").open("a") as settings:
        settings.write(
            f'[media.vault]\nkind = "pool"\npath = "{top}"\ncapacity = "1M"\npiece = "300K"\nretention = "1d"\n'
            '[media.lto]\nkind = "drive"\ndevice = "/nowhere/nst0"\nchanger = "none"\n'
        )
    with Repository.open(repository, owner=True) as opened:
        volume = opened.volume_add("db0", size_bytes=VOLUME_BYTES)
        for number in range(0, VOLUME_BYTES, 4096):
            opened.journal.write(volume.id, number, os.urandom(4096))
        opened.bookmark_add("a")
        opened.journal.write(volume.id, 0, b"y" * 4096)
        opened.bookmark_add("b")
    return top


def tapes(vsnapfs: Command, *arguments: str) -> dict[str, Any]:
    done = vsnapfs("tape", "list", "--json", *arguments)
    assert done.status == 0
    return {tape["label"]: tape for tape in json.loads(done.out)["tapes"]}


def test_nothing_is_on_tape_yet(vsnapfs: Command, vault: Path, repository: Path) -> None:
    done = vsnapfs("tape", "list")
    assert (done.status, done.out.split()[:3], len(done.out.splitlines())) == (0, ["TAPE", "MEDIUM", "STATE"], 1)
    assert not (repository / "tapes.db").exists()


def test_tapes_are_listed_with_what_is_on_them(vsnapfs: Command, vault: Path) -> None:
    assert vsnapfs("archive", "a", "--to", "vault").status == 0
    assert vsnapfs("archive", "b", "--to", "vault", "--incremental").status == 0
    found = tapes(vsnapfs)
    assert {label: (tape["state"], tape["archives"]) for label, tape in found.items()} == {
        "T00001": ("full", 1),
        "T00002": ("open", 2),
    }
    assert found["T00002"]["place"] == str(vault / "T00002")
    assert found["T00002"]["capacity_bytes"] == 1 << 20
    lines = vsnapfs("tape", "list").out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["T00001", "vault", "full"], ["T00002", "vault", "open"]]


def test_a_tape_is_shown_with_its_pieces(vsnapfs: Command, vault: Path) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    vsnapfs("archive", "b", "--to", "vault", "--incremental")
    shown = json.loads(vsnapfs("tape", "show", "T00001", "--json").out)
    assert [piece["file"] for piece in shown["pieces"]] == list(range(1, 2 * len(shown["pieces"]), 2))
    assert {piece["point"]["bookmark"] for piece in shown["pieces"]} == {"a"}
    assert len(shown["needed_by"]) == 2
    text = vsnapfs("tape", "show", "T00001").out
    assert "needed by: 2 archives" in text
    assert "T00001, generation 1" in text
    done = vsnapfs("tape", "show", "T0001")
    assert (done.status, done.err) == (
        3,
        "vsnapfs: no tape 'T0001' is in the catalog; did you mean T00001 or T00002?\n",
    )


def test_a_tape_that_others_need_is_retired_only_by_force(vsnapfs: Command, vault: Path) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    for label in ("T00001", "T00002"):
        vsnapfs("tape", "protect", label)
    assert vsnapfs("archive", "b", "--to", "vault", "--incremental").status == 0
    done = vsnapfs("tape", "retire", "T00001")
    assert done.status == 5
    assert done.err.startswith("vsnapfs: 1 archives on other tapes need what is on tape T00001: ")
    assert tapes(vsnapfs)["T00001"]["state"] == "full"
    done = vsnapfs("tape", "retire", "T00003")
    assert done.status == 0
    assert done.out.startswith("retired tape T00003; 1 archives on it count no more; it may be written over from 2")
    assert vsnapfs("tape", "retire", "T00001").status == 0
    found = tapes(vsnapfs)["T00003"]
    assert found["free_from"] > found["written"]
    assert tapes(vsnapfs)["T00001"]["free_from"] is None  # protected


def test_retiring_by_force(vsnapfs: Command, vault: Path, repository: Path) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    for label in ("T00001", "T00002"):
        vsnapfs("tape", "protect", label)
    vsnapfs("archive", "b", "--to", "vault", "--incremental")
    assert vsnapfs("tape", "retire", "T00001", "--force").status == 0
    with shelf(repository) as found:
        assert found.tapes.standing() == []


def test_protected_and_not_any_more(vsnapfs: Command, vault: Path) -> None:
    vsnapfs("tape", "label", "vault")
    done = vsnapfs("tape", "protect", "T00001")
    assert (done.status, done.out) == (0, "tape T00001 is protected\n")
    assert vsnapfs("archive", "a", "--to", "vault").status == 0
    assert tapes(vsnapfs)["T00001"]["files"] == 1
    done = vsnapfs("tape", "label", "vault", "T00001", "--force")
    assert (done.status, done.err) == (
        4,
        "vsnapfs: tape T00001 is protected; `vsnapfs tape protect T00001 --off`\n",
    )
    assert vsnapfs("tape", "protect", "T00001", "--off").out == "tape T00001 is not protected\n"
    assert vsnapfs("tape", "protect", "T9").status == 3


def test_archives_have_an_age(vsnapfs: Command, vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns + 36 * 3600 * 10**9)
    (listed,) = vsnapfs("--json", "archive", "list").json()["archives"]
    assert 36 * 3600 <= listed["age_s"] < 37 * 3600
    assert "  1.5 d  complete" in vsnapfs("archive", "list").out
    (copy,) = vsnapfs("--json", "tape", "copies").json()["points"][0]["on_tape"]
    assert 36 * 3600 <= copy["age_s"] < 37 * 3600
    monkeypatch.setattr(time, "time_ns", lambda: now_ns - 36 * 3600 * 10**9)  # the clock was set back
    assert vsnapfs("--json", "archive", "list").json()["archives"][0]["age_s"] == 0


def test_archives_of_another_repository_are_no_copies(
    vsnapfs: Command, vault: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two repositories share a pool, and their points have the same numbers."""
    vsnapfs("archive", "a", "--to", "vault")
    other = tmp_path / "other"
    monkeypatch.setenv("VSNAPFS_REPO", str(other))
    assert vsnapfs("init").status == 0
    (other / "vsnapfs.toml").write_text((repository / "vsnapfs.toml").read_text())
    with Repository.open(other, owner=True) as opened:
        volume = opened.volume_add("db0", size_bytes=VOLUME_BYTES)
        for number in range(0, VOLUME_BYTES, 4096):
            opened.journal.write(volume.id, number, os.urandom(4096))
        opened.bookmark_add("a")
    assert vsnapfs("archive", "a", "--to", "vault").status == 0
    assert vsnapfs("tape", "scan", "--from", "vault").status == 0
    listed = vsnapfs("--json", "archive", "list").json()["archives"]
    assert {one["point"]["seqno"] for one in listed} == {listed[0]["point"]["seqno"]}
    assert [one["copies"] for one in listed] == [1, 1]
    points = vsnapfs("--json", "tape", "copies").json()["points"]
    assert sorted((point["on_disk"], len(point["on_tape"])) for point in points) == [(False, 1), (True, 1)]
    assert len(needed(vsnapfs, "a")["ways"]) == 1
    theirs = {label for label, tape in tapes(vsnapfs).items() if tape["state"] == "open"}
    done = vsnapfs("--json", "archive", "a", "--to", "vault").json()["archives"][0]
    assert set(done["tapes"][:1]) == theirs  # it goes on with its own, and with none of the other's
    assert vsnapfs("tape", "verify", "--from", "vault").status == 0
    (other / "tapes.db").unlink()
    vault.rename(vault.parent / "shared")
    vault.mkdir()
    assert vsnapfs("archive", "a", "--to", "vault").status == 0  # T00001 again, of another pool
    done = vsnapfs("tape", "scan", "--from", vault.parent / "shared")
    assert (done.status, "not taken: tape T00001" in done.out) == (0, True)
    assert tapes(vsnapfs)["T00001"]["place"] == str(vault / "T00001")


def needed(vsnapfs: Command, *words: str, status: int = 0) -> dict[str, Any]:
    done = vsnapfs("--json", "tape", "needed", *words)
    assert done.status == status, done
    found: dict[str, Any] = json.loads(done.out)
    return found


def ageless(found: dict[str, Any]) -> dict[str, Any]:
    """Whenever it was asked."""
    ways = [{key: value for key, value in way.items() if key != "age_s"} for way in found["ways"]]
    return {key: value for key, value in found.items() if key != "age_s"} | {"ways": ways}


def test_tapes_that_a_point_needs(vsnapfs: Command, vault: Path) -> None:
    done = vsnapfs("tape", "needed", "b")
    assert (done.status, done.err) == (3, "vsnapfs: nothing of 'b' was archived\n")
    vsnapfs("archive", "a", "--to", "vault")
    vsnapfs("archive", "b", "--to", "vault", "--incremental")
    found = needed(vsnapfs, "b")
    (way,) = found["ways"]
    assert (found["on_disk"], way["counts"], len(way["archives"]), way["lacks"]) == (True, True, 2, [])
    assert [(tape["label"], tape["state"], tape["place"]) for tape in way["tapes"]] == [
        ("T00001", "full", str(vault / "T00001")),
        ("T00002", "open", str(vault / "T00002")),
    ]
    assert ageless(needed(vsnapfs, "latest")) == ageless(needed(vsnapfs, way["archive"][:8]))
    seqno = f"@{found['point']['seqno']}"
    assert vsnapfs("tape", "needed", seqno).out.splitlines()[2].startswith("incremental archive")
    vsnapfs("archive", "b", "--to", "vault")
    assert [one["kind"] for one in needed(vsnapfs, "b")["ways"]] == ["full", "incremental"]


def test_tapes_that_are_retired_missing_or_written_over_are_named(vsnapfs: Command, vault: Path) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    vsnapfs("archive", "b", "--to", "vault", "--incremental")

    def way(point: str) -> dict[str, Any]:
        (found,) = needed(vsnapfs, point, status=8)["ways"]
        assert not found["counts"]
        return dict(found)

    aside = vault.parent / "aside"
    (vault / "T00001").rename(aside)
    assert way("b")["lacks"] == ["tape T00001: it is not in vault"]
    assert "lacking: tape T00001: it is not in vault" in vsnapfs("tape", "needed", "b").out
    shutil.copytree(vault / "T00002", vault / "T00001")
    assert [tape["state"] for tape in way("b")["tapes"]] == ["written over", "open"]
    shutil.rmtree(vault / "T00001")
    aside.rename(vault / "T00001")
    assert needed(vsnapfs, "b")["ways"][0]["counts"]
    vsnapfs("tape", "retire", "T00001", "--force")
    assert (way("b")["lacks"], [tape["state"] for tape in way("a")["tapes"]]) == ([], ["retired", "open"])
    vsnapfs("tape", "label", "vault", "T00001", "--force")
    assert "is lost: tape T00001 was written over" in way("b")["lacks"][0]
    vault.rename(vault.parent / "elsewhere")
    assert "no such" in way("a")["lacks"][1].lower()


def test_copies_of_points(vsnapfs: Command, vault: Path) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    vsnapfs("archive", "b", "--to", "vault", "--incremental")
    vsnapfs("archive", "a", "--to", "vault")
    vsnapfs("bookmark", "add", "c")
    vsnapfs("bookmark", "remove", "a")
    points = vsnapfs("tape", "copies", "--json").json()["points"]
    found = {each["point"]["bookmark"]: each for each in points}
    assert [each["point"]["bookmark"] for each in points] == ["a", "b", "c"]
    assert {name: (each["on_disk"], len(each["on_tape"])) for name, each in found.items()} == {
        "a": (False, 2),
        "b": (True, 1),
        "c": (True, 0),
    }
    assert found["b"]["on_tape"][0]["tapes"] == ["T00001", "T00002"]
    rows = [re.split(" {2,}", line) for line in vsnapfs("tape", "copies").out.splitlines()[1:]]
    assert [(row[0], row[4], row[5]) for row in rows] == [("a", "no", "2"), ("b", "yes", "1"), ("c", "yes", "0")]
    assert rows[1][-1] == "T00001 T00002"
    vsnapfs("tape", "retire", "T00001", "--force")
    points = vsnapfs("tape", "copies", "--json").json()["points"]
    assert {each["point"]["bookmark"]: len(each["on_tape"]) for each in points}["b"] == 0


def test_a_tape_that_is_write_protected_keeps_its_place_in_the_catalog(vsnapfs: Command, vault: Path) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    (vault / "T00001" / "00000.label").chmod(0o400)
    before = tapes(vsnapfs)["T00001"]
    assert before["read_only"]
    done = vsnapfs("tape", "label", "vault", "T00001", "--force")
    assert (done.status, "is write-protected" in done.err) == (4, True)
    assert tapes(vsnapfs)["T00001"] == before


def test_labels(vsnapfs: Command, vault: Path) -> None:
    assert vsnapfs("tape", "label", "vault").out == "labelled tape T00001 of vault\n"
    assert vsnapfs("tape", "label", "vault").out == "labelled tape T00002 of vault\n"
    assert vsnapfs("tape", "label", "vault", "MONDAY", "--note", "the red shelf").status == 0
    assert tapes(vsnapfs)["MONDAY"]["note"] == "the red shelf"
    done = vsnapfs("tape", "label", "vault", "MONDAY")
    assert done.status == 5
    assert "has the label MONDAY; --force writes over it" in done.err
    before = tapes(vsnapfs)["MONDAY"]
    assert vsnapfs("tape", "label", "vault", "MONDAY", "--force").status == 0
    after = tapes(vsnapfs)["MONDAY"]
    assert (after["generation"], after["uuid"] == before["uuid"]) == (2, False)
    shutil.rmtree(vault / "MONDAY")
    assert vsnapfs("tape", "label", "vault", "MONDAY").status == 0
    assert tapes(vsnapfs)["MONDAY"]["generation"] == 3


def test_a_label_that_archives_are_on_is_not_given_away_where_its_tape_is_not_seen(
    vsnapfs: Command, vault: Path
) -> None:
    """As when the disk of the pool is not mounted."""
    vsnapfs("archive", "a", "--to", "vault")
    vault.rename(vault.with_name("elsewhere"))
    vault.mkdir()
    done = vsnapfs("tape", "label", "vault", "T00001")
    assert done.status == 5
    assert "tape T00001 holds archives" in done.err
    assert os.listdir(vault) == []
    assert vsnapfs("tape", "label", "vault").out == "labelled tape T00003 of vault\n"
    assert tapes(vsnapfs)["T00001"]["archives"] == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["label", "volt"], 3, "there is no medium 'volt'; did you mean vault?"),
        (["label", "vault", "x/y"], 2, "'x/y' is not a tape name"),
        (["label", "vault", "X", "--note", "two\nlines"], 2, "is no line"),
        (["label", "lto"], 3, "/nowhere/nst0"),
        (["list", "volt"], 3, "there is no medium 'volt'"),
        (["list", "lto", "--look"], 3, "/nowhere/nst0"),
        (["shwo"], 2, "no command 'shwo'; did you mean show?"),
    ],
)
def test_what_cannot_be(vsnapfs: Command, vault: Path, arguments: list[str], status: int, said: str) -> None:
    done = vsnapfs("tape", *arguments)
    assert (done.status, done.out) == (status, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_medium_that_is_not_to_be_had_hides_no_tape(vsnapfs: Command, vault: Path) -> None:
    vsnapfs("tape", "label", "vault")
    vault.rename(vault.with_name("elsewhere"))
    assert tapes(vsnapfs)["T00001"]["place"] is None
    assert vsnapfs("tape", "show", "T00001").status == 0
    assert vsnapfs("tape", "retire", "T00001").status == 0


@pytest.mark.parametrize("what", ["verify", "scan"])
def test_what_does_not_answer_keeps_nothing_else_from_being_read(
    vsnapfs: Command, vault: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The medium ``lto`` is nowhere, and of two tapes one fails."""
    for point in ("a", "b"):
        vsnapfs("archive", point, "--to", "vault")
    to_open = PoolTape.open

    def failing(tape: PoolTape, number: int) -> TapeReader:
        if number > 1 and tape.label is not None and tape.label.label == "T00001":
            raise StoreError("it is stuck")
        return to_open(tape, number)

    monkeypatch.setattr(PoolTape, "open", failing)
    done = vsnapfs("--json", "tape", what)
    answer = json.loads(done.out)
    labels = sorted(path.name for path in vault.iterdir())
    read = [tape["label"] for tape in answer["tapes"]] if what == "verify" else answer["tapes"]
    assert read == labels[1:]
    lto, stuck = answer["unread"]
    assert lto.startswith("lto: ")
    assert stuck == "T00001: it is stuck"
    assert done.status == NotFoundError.exit_status  # of the first
    assert answer.get("sound", False) is False
    assert vsnapfs("tape", what).out.splitlines()[-1] == "not read: T00001: it is stuck"
    with (vault / labels[-1] / "00001.tar").open("r+b") as piece:
        piece.seek(1000)
        piece.write(b"damage")
    assert vsnapfs("tape", "verify").status == IntegrityError.exit_status


def test_a_tape_that_is_not_there(vsnapfs: Command, vault: Path) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    alone = vsnapfs("tape", "verify", "T00009", "--from", "vault")
    assert (alone.status, alone.out) == (NotFoundError.exit_status, "")
    assert "tape T00009 is not there; did you mean " in alone.err
    beside = vsnapfs("tape", "verify", "T00009", "T00001", "--from", "vault")
    assert beside.status == NotFoundError.exit_status
    assert [line.partition(" ")[0] for line in beside.out.splitlines()] == ["T00001:", "not"]


def test_strangers_in_a_medium_are_named(vsnapfs: Command, vault: Path) -> None:
    (vault / "EMPTY").mkdir()
    (vault / "notes.txt").touch()
    listed = vsnapfs("tape", "list").out.splitlines()[1:]
    assert listed == [f"vault: tape EMPTY in {vault}/EMPTY is blank", "vault: notes.txt is no tape of its"]


def test_without_a_journal_that_can_be_read(vsnapfs: Command, vault: Path, repository: Path) -> None:
    vsnapfs("archive", "a", "--to", "vault")
    for segment in (repository / "journal").glob("*.seg"):
        segment.write_bytes(b"gone")
    assert vsnapfs("tape", "list").status == 0
    assert vsnapfs("tape", "show", "T00001").status == 0


def test_a_damaged_catalog_of_tapes_is_named_by_check(vsnapfs: Command, vault: Path, repository: Path) -> None:
    vsnapfs("tape", "label", "vault")
    assert vsnapfs("check").status == 0
    content = bytearray((repository / "tapes.db").read_bytes())
    content[:8] = b"nonsense"
    (repository / "tapes.db").write_bytes(content)
    done = vsnapfs("check")
    assert done.status == 6
    assert "tapes.db" in done.out
    done = vsnapfs("tape", "list")
    assert (done.status, len(done.err.splitlines())) == (6, 1)
    assert (repository / "tapes.db").read_bytes() == bytes(content)


def test_labels_and_media_are_completed(vsnapfs: Command, vault: Path, repository: Path) -> None:
    from vsnapfs.archive.tapes import medium_names, tape_labels

    vsnapfs("tape", "label", "vault")
    assert tape_labels(repository) == ["T00001"]
    assert medium_names(repository) == ["vault", "lto"]
