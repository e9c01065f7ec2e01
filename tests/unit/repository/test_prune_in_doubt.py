"""A branch file that cannot be understood may stand on any point: as long as it is there, a prune takes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.volumes import put
from vsnapfs.core.errors import IntegrityError, PointGoneError
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit
MIB = 1 << 20
SETTINGS = (
    '[journal]\nsegment_size = "64K"\n[retention]\nprotection_window = "1ns"\nkeep_last = 1\nminimum_age = "1ns"\n'
)


@pytest.fixture
def branched(path: Path) -> int:
    """A branch ``x`` on a point without a name, of which nothing else keeps anything. Returns its seqno."""
    (path / "vsnapfs.toml").write_text(SETTINGS)
    with Repository.open(path, owner=True) as repository:
        repository.volume_add("db", size_bytes=MIB)
        seqno = 0
        for name in ("first", "second", "third"):
            put(repository, "db", 0, name.encode() * 8192)
            repository.journal.commit()
            if name == "first":
                seqno = repository.branch_add("x", "-0s").seqno
                put(repository, "db", 0, b"-")
            repository.journal.seal()
            repository.bookmark_add(name)
    return seqno


@pytest.mark.parametrize("content", [b"{", b'{"format": 2}', b"", b"\xff\xfe"])
def test_it_is_named_and_nothing_goes(path: Path, branched: int, content: bytes) -> None:
    place = path / "branches/x.json"
    sound = place.read_bytes()
    place.write_bytes(content)
    with Repository.open(path, owner=True) as repository:
        for prune in (repository.prune_preview, repository.prune):
            with pytest.raises(IntegrityError, match=r"branches/x\.json") as refused:
                prune()
            assert "vsnapfs branch remove x" in (refused.value.hint or "")
            assert "\n" not in str(refused.value)
        assert any("branches/x.json" in warning for warning in repository.status().warnings)
        assert [bookmark.name for bookmark in repository.bookmarks()] == ["first", "second", "third"]
        assert repository.resolve(f"@{branched}").seqno == branched
    place.write_bytes(sound)
    with Repository.open(path, owner=True) as repository:
        repository.prune()
        assert [bookmark.name for bookmark in repository.bookmarks()] == ["third"]
        with repository.view("db", repository.resolve(f"@{branched}")) as view:
            assert view.read(0, 5) == b"first"
        assert repository.branch("x").problem == ""


def test_one_that_is_given_up_holds_nothing_up(path: Path, branched: int) -> None:
    (path / "branches/x.json").write_bytes(b"{")
    with Repository.open(path, owner=True) as repository:
        repository.branch_remove("x")
        repository.prune()
        with pytest.raises(PointGoneError):
            repository.resolve(f"@{branched}")
