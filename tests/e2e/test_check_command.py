"""``check`` and ``anchor`` as the command: what they print, and what they end with."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from tests.e2e.ground import refused, serving, small_segments
from tests.support.processes import must, must_json, run
from vsnapfs.repository.repository import Repository

USAGE, NOT_FOUND, NOT_PERMITTED, INTEGRITY = 2, 3, 4, 6

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two sealed segments and an open one."""
    path, image = tmp_path / "made", tmp_path / "image"
    Repository.create(path)
    small_segments(path)
    with Repository.open(path, owner=True) as repository:
        for number in range(2):
            image.write_bytes(random.Random(number).randbytes(128 << 10))
            repository.import_images({"db": image}, f"b{number}")
    return path


@pytest.mark.parametrize(
    ("words", "percent"),
    [
        (("check", "--read-data"), 100),
        (("check", "--read-data", "--json"), 100),
        (("--json", "check", "--read-data", "100%"), 100),
        (("check", "--read-data", "40%", "--json"), 40),
        (("check", "--read-data=40", "--json"), 40),
        (("check", "--json"), 0),
    ],
)
def test_how_much_is_read(made: Path, words: tuple[str, ...], percent: int) -> None:
    said = must(made, *words)
    if "--json" not in words:
        assert ": 0 damaged" in said
        return
    found = json.loads(said)
    assert (found["seed"] is not None) == (percent == 40)
    assert found["read_bytes"] >= found["data_bytes"] * percent / 100
    assert (found["read_bytes"] < found["data_bytes"]) == (percent < 100)


def test_the_seed_is_told_and_may_be_given(made: Path) -> None:
    said = must(made, "check", "--read-data", "40%")
    seed = said.split("(--seed ")[1].split(")")[0]
    again = must(made, "check", "--read-data", "40%", "--seed", seed)
    assert again == said


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--read-data", "0%"),
        ("check", "--read-data", "101%"),
        ("check", "--read-data", "nan"),
        ("check", "--read-data", "much"),
        ("check", "--seed", "3"),
        ("check", "--read-data", "--seed", "3"),
        ("check", "--repair", "--read-data", "10%"),
        ("check", "--repair", "--anchor", "x"),
        ("check", "--read-data", "10%", "--anchor", "x"),
        ("check", "--anchor", "x"),
        ("check", "--anchor", ""),
    ],
)
def test_what_makes_no_sense(made: Path, words: tuple[str, ...]) -> None:
    refused(made, USAGE, *words)


def test_anchors(made: Path, tmp_path: Path) -> None:
    value = must(made, "anchor").strip()
    assert must_json(made, "anchor")["value"] == value
    said = must(made, "check", "--read-data", "--anchor", value)
    assert "is the one that was anchored, by every byte" in said
    assert "no key" in said
    assert "not by its bytes" in must(made, "check", "--anchor", value)
    with serving(made, tmp_path / "mount"):
        must(made, "bookmark", "add", "later")
        assert must(made, "anchor").strip() == value, "nothing was sealed since"
        must(made, "check", "--anchor", value)
    changed = value.replace(value[-64:], "0" * 64)
    broken = run(made, "check", "--anchor", changed, "--json")
    assert broken.returncode == INTEGRITY
    assert json.loads(broken.stdout)["anchor"]["holds"] is False
    assert "is not the one that was anchored" in run(made, "check", "--anchor", changed).stdout
    Repository.create(tmp_path / "other")
    assert "the anchor is of repository" in refused(tmp_path / "other", NOT_FOUND, "check", "--anchor", value)
    assert "no sealed segment" in refused(tmp_path / "other", NOT_FOUND, "anchor")


def test_anchors_with_a_key(made: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(random.Random(1).randbytes(32))
    assert "is open to others" in refused(made, NOT_PERMITTED, "anchor", "--anchor-key", key)
    key.chmod(0o600)
    value = must(made, "anchor", "--anchor-key", key).strip()
    assert "no key" not in must(made, "check", "--read-data", "--anchor", value, "--anchor-key", key)
    assert "no key" in must(made, "check", "--anchor", value)
    without = must(made, "anchor").strip()
    assert run(made, "check", "--anchor", without, "--anchor-key", key).returncode == INTEGRITY
    refused(made, NOT_FOUND, "anchor", "--anchor-key", tmp_path / "nowhere")


def test_what_is_said_twice_costs_nothing(made: Path) -> None:
    segment = min((made / "journal").glob("*.seg"))
    content = bytearray(segment.read_bytes())
    content[4096 + 200] ^= 1
    segment.write_bytes(content)
    found = run(made, "check", "--read-data")
    assert found.returncode == INTEGRITY
    assert "costs no bookmark anything" in found.stdout


def test_of_a_repository_without_a_beginning_everything_is_lost(made: Path, tmp_path: Path) -> None:
    shutil.move(min((made / "journal").glob("*.seg")), tmp_path / "aside")
    found = run(made, "check")
    assert found.returncode == INTEGRITY
    assert "costs all points from @1 to @" in found.stdout
    assert "costs b0/db" in found.stdout
    assert "costs b1/db" in found.stdout
    assert "`vsnapfs check` says what that costs" in refused(made, INTEGRITY, "bookmark", "list")
