"""Archives to a command, by the command line: the catalog knows them, they come back, and what was broken off does not count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

CONTENT = os.urandom(64 << 10) * 2
WRITES = "cat > '{to}'/{{label}}.part && mv '{to}'/{{label}}.part '{to}'/{{label}}.{{extension}}"


@pytest.fixture
def taken(repository: Path) -> Path:
    """The directory of what the command of medium ``off`` took; ``blind`` is one that nothing is read from, ``bad`` fails."""
    to = repository.parent / "taken"
    to.mkdir()
    with (repository / "vsnapfs.toml").open("a") as settings:
        settings.write(
            f'[media.off]\nkind = "command"\ncommand = ["sh", "-c", "{WRITES.format(to=to)}"]\n'
            f'read = ["cat", "{to}/{{label}}.{{extension}}"]\n'
            f'[media.blind]\nkind = "command"\nlabels = "B%03d"\ncommand = ["sh", "-c", "{WRITES.format(to=to)}"]\n'
            '[media.bad]\nkind = "command"\ncommand = ["sh", "-c", "head -c 9 >/dev/null; echo no line >&2; exit 7"]\n'
        )
    with Repository.open(repository, owner=True) as opened:
        volume = opened.volume_add("db", size_bytes=1 << 20)
        opened.journal.write(volume.id, 0, CONTENT)
        opened.bookmark_add("a")
        opened.journal.write(volume.id, 512 << 10, CONTENT[:8192])
        opened.bookmark_add("b")
    return to


@pytest.mark.parametrize("options", [(), ("--compress",)])
def test_a_chain_goes_out_and_comes_back(
    vsnapfs: Command, repository: Path, taken: Path, options: tuple[str, ...]
) -> None:
    assert vsnapfs("archive", "a", "--to", "off", *options).status == 0
    done = vsnapfs("--json", "archive", "b", "--to", "off", "--incremental", "--verify", *options).json()["archives"][0]
    assert (done["archive"]["kind"], done["tapes"], done["verified"]) == ("incremental", ["T00002"], True)
    listed = vsnapfs("--json", "archive", "list").json()["archives"]
    assert [(one["state"], one["tapes"], one["copies"]) for one in listed] == [
        ("complete", ["T00001"], 1),
        ("complete", ["T00002"], 1),
    ]
    assert {tape["state"] for tape in vsnapfs("--json", "tape", "list").json()["tapes"]} == {"full"}
    out = repository.parent / "out"
    assert vsnapfs("recall", "b", "--to", out).status == 0
    wanted = CONTENT.ljust(512 << 10, b"\0") + CONTENT[:8192].ljust(512 << 10, b"\0")
    assert (out / "db").read_bytes() == wanted
    assert vsnapfs("tape", "verify").status == 0
    done_scan = vsnapfs("--json", "tape", "scan").json()
    assert (done_scan["archives"], done_scan["new_archives"]) == (2, [])


def test_a_chain_goes_to_a_command_as_one_full_archive(vsnapfs: Command, repository: Path, taken: Path) -> None:
    vsnapfs("archive", "a", "--to", "off")
    vsnapfs("archive", "b", "--to", "off", "--incremental")
    done = vsnapfs("recall", "b", "--archive-to", "blind")
    assert (done.status, done.err.splitlines()[-1:]) == (0, ["tapes, in this order: T00001, T00002"])
    out = repository.parent / "out"
    assert vsnapfs("recall", "b", "--from", taken / "B001.tar", "--to", out).status == 0
    assert (out / "db").read_bytes()[512 << 10 :][:8192] == CONTENT[:8192]
    assert [way["kind"] for way in vsnapfs("--json", "tape", "needed", "b").json()["ways"]] == ["full", "incremental"]


def test_one_that_fails_is_no_copy_and_its_label_is_free(vsnapfs: Command, taken: Path) -> None:
    done = vsnapfs("archive", "a", "--to", "bad")
    assert (done.status, done.out, done.err) == (1, "", "vsnapfs: the command of bad ended with status 7: no line\n")
    (listed,) = vsnapfs("--json", "archive", "list").json()["archives"]
    assert (listed["state"], listed["why"], listed["copies"]) == (
        "failed",
        "the command of bad ended with status 7: no line",
        0,
    )
    assert vsnapfs("--json", "tape", "list").json()["tapes"] == []
    assert vsnapfs("archive", "a", "--resume", "--to", "off").status == 0  # from its beginning
    assert [tape["label"] for tape in vsnapfs("--json", "tape", "list").json()["tapes"]] == ["T00001"]


def test_damage_of_what_comes_back_is_named(vsnapfs: Command, repository: Path, taken: Path) -> None:
    assert vsnapfs("archive", "a", "--to", "off").status == 0
    path = taken / "T00001.tar"
    content = bytearray(path.read_bytes())
    content[content.index(CONTENT[:64])] ^= 1
    path.write_bytes(content)
    done = vsnapfs("recall", "a", "--to", repository.parent / "out")
    assert done.status == 6
    assert "lost: bytes 0 to" in done.out
    assert vsnapfs("tape", "verify", "T00001").status == 6
    path.unlink()
    done = vsnapfs("recall", "a", "--to", repository.parent / "again")
    assert done.status == 1
    assert "the command that reads off ended with status 1" in done.err


def test_without_a_command_that_reads_the_file_is_given(vsnapfs: Command, repository: Path, taken: Path) -> None:
    assert vsnapfs("archive", "a", "--to", "blind", "--verify").status == 2
    assert vsnapfs("archive", "a", "--to", "blind").status == 0
    out = repository.parent / "out"
    done = vsnapfs("recall", "a", "--to", out)
    assert (done.status, "tape B001 is not there; give --from where that is" in done.err) == (3, True)
    assert vsnapfs("recall", "a", "--from", taken / "B001.tar", "--to", out).status == 0
    assert (out / "db").read_bytes() == CONTENT.ljust(1 << 20, b"\0")


def test_what_has_no_sense(vsnapfs: Command, taken: Path) -> None:
    for words in (("archive", "--resume", "--to", "off"), ("tape", "label", "off")):
        done = vsnapfs(*words)
        assert done.status == 2
        assert "command" in done.err


def test_a_command_is_told_what_it_gets(vsnapfs: Command, repository: Path, taken: Path) -> None:
    with (repository / "vsnapfs.toml").open("a") as settings:
        script = f"cat >/dev/null; env > {taken}/env"
        settings.write(f'[media.told]\nkind = "command"\ncompression = "zstd"\ncommand = ["sh", "-c", "{script}"]\n')
    done = vsnapfs("--json", "archive", "b", "--since", "a", "--to", "told").json()["archives"][0]["archive"]
    told = dict(line.split("=", 1) for line in (taken / "env").read_text().splitlines() if line.startswith("VSNAPFS_"))
    assert told == {
        "VSNAPFS_ARCHIVE": done["uuid"],
        "VSNAPFS_BOOKMARK": "b",
        "VSNAPFS_EXTENSION": "tar.zst",
        "VSNAPFS_KIND": "incremental",
        "VSNAPFS_LABEL": "T00001",
        "VSNAPFS_MEDIUM": "told",
        "VSNAPFS_POINT": "b",
        "VSNAPFS_REPO": str(repository),
        "VSNAPFS_SEQNO": str(done["point"]["seqno"]),
        "VSNAPFS_SINCE": "a",
        "VSNAPFS_TIME": done["point"]["time"],
    } | {name: value for name, value in os.environ.items() if name.startswith("VSNAPFS_") and name != "VSNAPFS_REPO"}


@pytest.mark.parametrize("more", ["yes", "cat /dev/zero"])
def test_what_is_read_back_may_have_no_end(vsnapfs: Command, repository: Path, taken: Path, more: str) -> None:
    with (repository / "vsnapfs.toml").open("a") as settings:
        settings.write(
            f'[media.endless]\nkind = "command"\ncommand = ["sh", "-c", "cat > {taken}/file"]\n'
            f'read = ["sh", "-c", "cat {taken}/file; exec {more}"]\n'
        )
    assert vsnapfs("archive", "a", "--to", "endless").status == 0
    done = vsnapfs("recall", "a", "--to", repository.parent / "out")
    assert (done.status, "something follows the piece" in done.out) == (6, True)
    assert (repository.parent / "out" / "db").read_bytes() == CONTENT.ljust(1 << 20, b"\0")
    assert vsnapfs("archive", "a", "--to", "endless", "--verify").status == 6


def test_what_does_not_answer_is_taken_from_another_copy(vsnapfs: Command, repository: Path, taken: Path) -> None:
    """Where neither answers it ends, and can be gone on with."""
    for _ in range(2):
        assert vsnapfs("archive", "a", "--to", "off").status == 0
    wanted = CONTENT.ljust(1 << 20, b"\0")
    (taken / "T00002.tar").rename(taken / "away")  # the later one is taken first
    done = vsnapfs("--json", "recall", "a", "--to", repository.parent / "other").json()
    assert ((repository.parent / "other" / "db").read_bytes(), done["lost"]) == (wanted, [])
    assert [flaw["why"][:50] for flaw in done["flaws"]] == ["the command that reads off ended with status 1: ca"]
    assert done["filled"][0]["tapes"] == ["T00001"]
    (taken / "away").rename(taken / "T00002.tar")
    for path in sorted(taken.iterdir()):
        path.rename(path.with_suffix(".away"))
    out = repository.parent / "out"
    failed = vsnapfs("recall", "a", "--to", out)
    assert (failed.status, "ended with status 1" in failed.err, "--resume" in failed.err) == (1, True, True)
    assert not (out / "db").exists()
    (taken / "T00002.away").rename(taken / "T00002.tar")
    assert vsnapfs("recall", "a", "--to", out, "--resume").status == 0
    assert (out / "db").read_bytes() == wanted


def test_what_does_not_answer_is_lost_if_that_is_salvaged(vsnapfs: Command, repository: Path, taken: Path) -> None:
    assert vsnapfs("archive", "a", "--to", "off").status == 0
    assert vsnapfs("archive", "b", "--incremental", "--to", "off").status == 0
    (taken / "T00001.tar").unlink()
    out = repository.parent / "out"
    assert vsnapfs("recall", "b", "--to", out).status == 1
    assert vsnapfs("recall", "b", "--to", repository.parent / "salvaged", "--salvage").status == 6
    content = (repository.parent / "salvaged" / "db").read_bytes()
    assert content == bytes(512 << 10) + CONTENT[:8192] + bytes((512 << 10) - 8192)
