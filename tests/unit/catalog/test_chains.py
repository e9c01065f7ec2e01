"""Which archives stand with all that they need: by example, against a plain model, and of chains as long as an hourly policy makes them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vsnapfs.catalog import chains
from vsnapfs.core.tapes import ArchivedPoint, ArchiveEntry

TIME = "2026-11-26T10:00:00.000000000Z"


def archive(seqno: int, parent: str | None = None, *, since: int | None = None, **others: Any) -> ArchiveEntry:
    """Called ``a`` and its point. Of one that is incremental: from which archive on, if that is known, and since which point."""
    fields: dict[str, Any] = {
        "uuid": f"a{seqno}",
        "repository": "r",
        "kind": "full" if since is None else "incremental",
        "point": ArchivedPoint(seqno=seqno, time=TIME),
        "since": None if since is None else ArchivedPoint(seqno=since, time=TIME),
        "parent": parent,
        "made": TIME,
        "state": "complete",
    }
    return ArchiveEntry(**fields | others)


def standing(*archives: ArchiveEntry, gone: tuple[str, ...] = ()) -> list[str]:
    return [entry.uuid for entry in chains.standing(archives, gone)]


def test_what_an_archive_needs_has_to_stand() -> None:
    chain = archive(1), archive(2, "a1", since=1), archive(3, "a2", since=2)
    assert standing(*chain) == ["a1", "a2", "a3"]
    assert standing(*reversed(chain)) == ["a3", "a2", "a1"]
    assert standing(*chain, gone=("a2",)) == ["a1"]
    assert standing(*chain[1:]) == []
    assert standing(chain[0], archive(2, "a1", since=1, state="failed"), chain[2]) == ["a1"]


def test_changes_alone_are_no_copy() -> None:
    """Where the archive that they go on from was not known, any of that point will do."""
    changes = archive(2, since=1)
    assert standing(changes) == []
    assert standing(changes, archive(3, "a2", since=2)) == []
    assert standing(archive(1, repository="another"), changes) == ["a1"]
    assert standing(archive(1), changes, archive(3, "a2", since=2)) == ["a1", "a2", "a3"]


def test_one_that_needs_itself_is_none() -> None:
    assert standing(archive(1, "a2", since=2), archive(2, "a1", since=1), archive(3)) == ["a3"]
    assert standing(archive(1, since=1), archive(2, since=1)) == []


def test_a_chain_of_many() -> None:
    """An hour each for two years. With a cost that grows as the square of it this would take minutes."""
    many = [archive(1), *(archive(n, f"a{n - 1}", since=n - 1) for n in range(2, 17_500))]
    assert len(chains.standing(many[::-1], ())) == len(many)
    assert len(chains.chain({entry.uuid: entry for entry in many}, many[-1])) == len(many)


@given(st.lists(st.tuples(st.sampled_from(["full", "since", "orphan"]), st.integers(0, 9), st.booleans()), max_size=10))
def test_as_a_plain_model_says(made: list[tuple[str, int, bool]]) -> None:
    archives = [
        archive(n)
        if kind == "full"
        else archive(n, f"a{other}" if kind == "since" else None, since=other, state="complete" if whole else "failed")
        for n, (kind, other, whole) in enumerate(made)
    ]
    wanted: set[int] = set()
    for _ in archives:
        wanted |= {
            n
            for n, (kind, other, whole) in enumerate(made)
            if kind == "full" or (whole and other in wanted and other != n)
        }
    assert standing(*archives) == [f"a{n}" for n in sorted(wanted)]
