"""An anchor proves that the past was not rewritten: a journal forged with right checksums and digests passes every other
check, and not this one."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from tests.support.pruned import grow, opened, write_some
from tests.support.volumes import content_at, mark, put
from vsnapfs.core.errors import NotFoundError, PermissionDeniedError, UsageError, VsnapfsError
from vsnapfs.core.findings import Anchor, Check
from vsnapfs.repository.anchors import read_key
from vsnapfs.repository.check import Wanted
from vsnapfs.repository.repository import Repository

SIZE = 128 << 10


def fill(repository: Repository, image: Path, text: bytes) -> None:
    """Three sealed segments and an open one; ``text`` is in the second."""
    rng = random.Random(5)
    image.write_bytes(rng.randbytes(SIZE))
    repository.volume_add("ext", primary=image)
    repository.volume_add("db0", size_bytes=SIZE)
    for number in range(3):
        mark(repository, "db0", number * 8192, text if number == 1 else rng.randbytes(4096), f"b{number}")
        repository.journal.seal()
    mark(repository, "db0", 65536, rng.randbytes(100), "open")


@pytest.fixture
def history(repository: Repository, path: Path, memory_path: Path) -> Path:
    fill(repository, memory_path / "disk.img", b"paid 100")
    repository.close()
    return path


@pytest.fixture
def key(memory_path: Path) -> Path:
    path = memory_path / "key"
    path.write_bytes(random.Random(1).randbytes(32))
    path.chmod(0o600)
    return path


def anchor_of(path: Path, key: Path | None = None) -> Anchor:
    with Repository.open(path, owner=False) as reader:
        return reader.anchor(None if key is None else read_key(key, path))


def held(path: Path, value: str, key: Path | None = None, *, read: bool = True) -> Check:
    secret = None if key is None else read_key(key, path)
    with Repository.open(path, owner=False) as reader:
        return reader.check(wanted=Wanted(percent=100 if read else 0, anchor=value, anchor_key=secret))


def forge(history: Path, memory_path: Path) -> None:
    """The same repository with another past: made by the same program, so all in it is consistent."""
    identity, image = (history / "repository.json").read_bytes(), (memory_path / "disk.img").read_bytes()
    shutil.rmtree(history)
    Repository.create(history)
    for file in history.glob("journal/*"):
        file.unlink()
    (history / "repository.json").write_bytes(identity)
    import uuid

    import msgspec

    from vsnapfs.binding import Journal, Store
    from vsnapfs.repository.layout import Layout

    layout = Layout(history)
    with Store(layout.fd) as store:
        Journal.create(store, uuid.UUID(msgspec.json.decode(identity)["uuid"]).bytes)
    layout.close()
    with Repository.open(history, owner=True) as repository:
        fill(repository, memory_path / "disk.img", b"paid 999")
    assert (memory_path / "disk.img").read_bytes() == image


@pytest.mark.parametrize("read", [True, False], ids=["bytes", "trailers"])
def test_what_was_not_rewritten_is_proven(history: Path, read: bool) -> None:
    anchor = anchor_of(history)
    found = held(history, anchor.value, read=read)
    assert found.damages == []
    assert found.anchor is not None
    assert (found.anchor.holds, found.anchor.by) == (True, "bytes" if read else "trailers")
    assert (found.anchor.seqno, found.anchor.keyed, found.anchor.not_covered) == (anchor.seqno, False, [])


def test_it_holds_when_more_comes_after(history: Path) -> None:
    anchor = anchor_of(history)
    with Repository.open(history, owner=True) as repository:
        mark(repository, "db0", 0, b"later", "later")
        repository.journal.seal()
        put(repository, "db0", 0, b"and later")
    assert anchor_of(history).seqno > anchor.seqno
    assert held(history, anchor.value).damages == []
    assert held(history, anchor_of(history).value).damages == []


def test_a_rewritten_past_is_seen_by_the_anchor_alone(history: Path, memory_path: Path) -> None:
    value = anchor_of(history).value
    forge(history, memory_path)
    with Repository.open(history, owner=False) as reader:
        assert content_at(reader, "db0", "b1")[8192:8200] == b"paid 999"
        assert reader.check(read_data=True).damages == []
    for read in (True, False):
        found = held(history, value, read=read)
        assert found.anchor is not None
        assert not found.anchor.holds
        assert [damage.what for damage in found.damages] == [
            f"the past up to @{found.anchor.seqno} is not the one that was anchored"
        ]


def test_payload_that_is_rewritten_under_its_digests_needs_the_bytes(history: Path) -> None:
    """Who changes a segment and leaves its trailer is found by reading it."""
    value = anchor_of(history).value
    path = sorted((history / "journal").glob("*.seg"))[1]
    path.write_bytes(path.read_bytes().replace(b"paid 100", b"paid 999"))
    by_trailers = held(history, value, read=False).anchor
    assert by_trailers is not None
    assert by_trailers.holds
    found = held(history, value)
    assert found.anchor is not None
    assert not found.anchor.holds
    assert found.damages


def crc32c_preserved(content: bytes, at: int, wanted: bytes) -> bytes:
    """The block with other bytes and the same CRC: what anybody can work out, since a CRC is linear."""
    from tests.support.format_reader import crc32c

    block = bytearray(content[at : at + 4096])
    before = crc32c(bytes(block))
    block[: len(wanted)] = wanted
    zero = crc32c(bytes(4096))
    rows: list[tuple[int, int]] = []
    for bit in range(64):
        probe = bytearray(4096)
        probe[4088 + bit // 8] = 1 << bit % 8
        effect, used = crc32c(bytes(probe)) ^ zero, 1 << bit
        for row, combination in rows:
            if effect ^ row < effect:
                effect, used = effect ^ row, used ^ combination
        if effect:
            rows.append((effect, used))
            rows.sort(reverse=True)
    missing, chosen = crc32c(bytes(block)) ^ before, 0
    for row, combination in rows:
        if missing ^ row < missing:
            missing, chosen = missing ^ row, chosen ^ combination
    assert missing == 0
    for bit in range(64):
        block[4088 + bit // 8] ^= (chosen >> bit & 1) << bit % 8
    assert crc32c(bytes(block)) == before
    return content[:at] + bytes(block) + content[at + 4096 :]


def test_a_base_that_is_rewritten_under_its_checksums_is_seen(history: Path) -> None:
    value = anchor_of(history).value
    image = history / "base/00000001.img"
    image.write_bytes(crc32c_preserved(image.read_bytes(), 8192, b"another past"))
    with Repository.open(history, owner=False) as reader:
        assert content_at(reader, "ext", "b1")[8192:8204] == b"another past"
    found = held(history, value)
    assert found.anchor is not None
    assert not found.anchor.holds
    assert [(damage.file, "digest" in damage.what) for damage in found.damages] == [("base/00000001.img", True)]
    assert "b1/ext" in found.damages[0].costs


def test_the_digest_of_a_base_is_what_the_format_says(history: Path) -> None:
    """native/FORMAT.md, section 7."""
    content = (history / "base/00000001.img").read_bytes()
    digest = hashlib.sha256()
    for at in range(0, SIZE, 4096):
        if any(content[at : at + 4096]):
            digest.update(at.to_bytes(8, "little") + content[at : at + 4096])
    (segment, *_) = sorted((history / "journal").glob("*.seg"))
    assert f'"base_digest":"{digest.hexdigest()}"'.encode() in segment.read_bytes()


def test_a_key_makes_it_nobody_elses(history: Path, key: Path, memory_path: Path) -> None:
    plain, keyed = anchor_of(history), anchor_of(history, key)
    assert (plain.keyed, keyed.keyed) == (False, True)
    found = held(history, keyed.value, key)
    assert found.anchor is not None
    assert (found.damages, found.anchor.holds, found.anchor.keyed) == ([], True, True)
    without = held(history, keyed.value)
    assert without.anchor is not None
    assert (without.damages, without.anchor.keyed) == ([], False)
    (refused,) = held(history, plain.value, key).damages
    assert "has no MAC" in refused.what
    other = memory_path / "other"
    other.write_bytes(bytes(32))
    other.chmod(0o600)
    (refused,) = held(history, anchor_of(history, other).value, key).damages
    assert "not made with this key" in refused.what


def test_the_settings_may_name_the_key(history: Path, key: Path) -> None:
    value = anchor_of(history, key).value
    (history / "vsnapfs.toml").write_text(f'[check]\nanchor_key = "{key}"\n')
    assert anchor_of(history).value == value
    found = held(history, value).anchor
    assert found is not None
    assert found.keyed


def test_keys_that_are_none(history: Path, key: Path, memory_path: Path) -> None:
    def refusal(path: Path) -> VsnapfsError:
        with pytest.raises(VsnapfsError) as caught:
            anchor_of(history, path)
        return caught.value

    assert isinstance(refusal(memory_path / "nowhere"), NotFoundError)
    key.chmod(0o640)
    assert isinstance(refusal(key), PermissionDeniedError)
    key.chmod(0o600)
    key.write_bytes(b"short")
    assert isinstance(refusal(key), UsageError)
    inside = history / "key"
    inside.write_bytes(bytes(32))
    inside.chmod(0o600)
    assert "is in the repository" in str(refusal(inside))


def test_values_that_are_none(history: Path, path: Path, memory_path: Path) -> None:
    value = anchor_of(history).value
    for wrong in ("", "x", value[:-1], value.upper(), value.replace("vsnapfs-1", "vsnapfs-2"), value + ":00"):
        with pytest.raises(UsageError, match="is not an anchor"):
            held(history, wrong)
    other = memory_path / "other"
    Repository.create(other)
    with pytest.raises(NotFoundError, match="no sealed segment"):
        anchor_of(other)
    with pytest.raises(NotFoundError, match="the anchor is of repository"):
        held(other, value)


def test_a_lost_end_is_seen(history: Path) -> None:
    value = anchor_of(history).value
    for file in sorted((history / "journal").glob("*.seg"))[2:]:
        file.unlink()
    (history / "catalog.db").unlink()
    found = held(history, value)
    assert [damage.what.split(",")[0] for damage in found.damages] == [
        f"no sealed segment ends with @{value.split(':')[2]}"
    ]


def test_a_base_of_which_no_digest_was_kept_is_named(
    repository: Repository, path: Path, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions made them."""
    monkeypatch.setattr("vsnapfs.binding.base.BaseBuilder.digest", lambda _: b"")
    fill(repository, memory_path / "disk.img", b"paid 100")
    repository.close()
    found = held(path, anchor_of(path).value)
    assert found.damages == []
    assert found.anchor is not None
    assert (found.anchor.holds, found.anchor.not_covered) == (True, ["ext"])


def test_what_was_compacted_is_not_proven(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An anchor of it is not found; one of later records names the volumes that it does not speak for, also where bases stay."""
    monkeypatch.setattr("vsnapfs.repository.compactable.CompactableJournal.estimate_move", lambda *_: None)
    with opened(path, 'protection_window = "1ms"\nkeep_last = 1') as repository:
        grow(repository, random.Random(1), ["first"], 0)
        repository.bookmark_hold("first")
        grow(repository, random.Random(2), [f"b{number}" for number in range(30)], 40)
        old = next(found for found in repository.journal.segments() if found.sealed)
        early = f"vsnapfs-1:{repository.uuid.replace('-', '')}:{old.last_seqno}:{old.digest.hex()}"
        repository.volume_add("later", size_bytes=4096)
        write_some(repository, random.Random(3), 200)
        repository.journal.seal()
        late = repository.anchor().value
        assert repository.check(wanted=Wanted(percent=100, anchor=early)).anchor is not None
        assert repository.prune().freed_bytes > 0
        assert list((path / "base").iterdir()) == []
        with pytest.raises(NotFoundError, match="were compacted since the anchor was made"):
            repository.check(wanted=Wanted(percent=100, anchor=early))
        proof = repository.check(wanted=Wanted(percent=100, anchor=late)).anchor
        assert proof is not None
        assert (proof.holds, proof.not_covered) == (True, ["db0", "db1"])
