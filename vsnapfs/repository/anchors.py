"""Anchors: a short text, kept elsewhere, that proves later that the past was not rewritten.

Sealed segments name each other's digest, so the digest of the last one speaks for every byte of all batches before; what
a base image holds is told, as a digest, by the event that added its volume, until it is moved. An anchor is that digest and where it
stands. A compacted segment says which digest its last one had, and its bytes do not prove that: so the anchor does not speak for
what was in it. Whoever can write to the repository can make another past with another anchor: so the value is to be kept where they
cannot write, or made with a key that they do not have.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from pathlib import Path
from typing import Literal, NamedTuple

from vsnapfs.binding import RecordKind, SegmentFacts
from vsnapfs.binding.base_move import base_seqno
from vsnapfs.catalog.bodies import VolumeAdded, decode
from vsnapfs.core.errors import NotFoundError, PermissionDeniedError, UsageError, from_os_error
from vsnapfs.core.findings import Anchor, AnchorProof, Damage
from vsnapfs.core.times import iso
from vsnapfs.repository.layout import JOURNAL, segment
from vsnapfs.repository.parts import Parts

_VALUE = re.compile(
    r"(?P<said>vsnapfs-1:(?P<repository>[0-9a-f]{32}):(?P<seqno>[1-9][0-9]{0,19}):(?P<digest>[0-9a-f]{64}))"
    r"(?::(?P<mac>[0-9a-f]{64}))?"
)
KEY_BYTES_MIN = 16
KEY_BYTES_MAX = 1 << 16


class Given(NamedTuple):
    """An anchor that was read, and the key to compare it with."""

    said: str
    seqno: int
    digest: bytes
    mac: str | None
    key: bytes | None


def make(parts: Parts, key: bytes | None) -> Anchor:
    """The anchor of the last sealed segment. key: None: that of the settings. Raises: NotFoundError: none is sealed."""
    secret = _key(parts, key)
    found = _last_sealed(parts)
    if found is None:
        raise NotFoundError(f"{parts.layout.path} has no sealed segment yet", hint="an anchor speaks of sealed ones")
    said = f"vsnapfs-1:{parts.uuid.hex}:{found.last_seqno}:{found.digest.hex()}"
    value = said if secret is None else f"{said}:{_mac(secret, said)}"
    time = iso(parts.journal.time_of(found.last_seqno))
    return Anchor(value=value, seqno=found.last_seqno, time=time, keyed=secret is not None)


def read(parts: Parts, value: str, key: bytes | None) -> Given:
    """Raises: UsageError: not an anchor. NotFoundError: another repository's."""
    match = _VALUE.fullmatch(value.strip())
    if match is None:
        raise UsageError(f"{value!r} is not an anchor", hint="`vsnapfs anchor` prints one")
    if match["repository"] != parts.uuid.hex:
        raise NotFoundError(f"the anchor is of repository {match['repository']}, this is {parts.uuid.hex}")
    if any(
        found.generation and found.first_seqno <= int(match["seqno"]) <= found.last_seqno
        for found in parts.journal.segments()
    ):
        raise NotFoundError(
            f"the records up to @{match['seqno']} were compacted since the anchor was made",
            hint="what it speaks of is not there any more; make a new one after compactions",
        )
    digest = bytes.fromhex(match["digest"])
    return Given(match["said"], int(match["seqno"]), digest, match["mac"], _key(parts, key))


def prove(parts: Parts, given: Given, by: Literal["bytes", "trailers"], damages: list[Damage]) -> AnchorProof:
    """Hold the anchor against the journal. What contradicts it is appended to ``damages``.

    Digests of all segments were compared with their bytes before, if it is to be by bytes; what did not match is in
    ``damages`` already.
    """
    file, what = JOURNAL, _mac_fault(given)
    if what is None:
        found = _sealed_up_to(parts, given.seqno)
        if found is None:
            what = f"no sealed segment ends with @{given.seqno}, where the anchor was made"
        elif found.digest != given.digest:
            file, what = (
                segment(found.first_seqno, found.generation),
                f"the past up to @{given.seqno} is not the one that was anchored",
            )
    before = {
        segment(found.first_seqno, found.generation)
        for found in parts.journal.segments()
        if found.first_seqno <= given.seqno
    }
    sound = not any(damage.file in before or damage.file.startswith("base/") for damage in damages)
    if what is not None:
        damages.append(Damage(file=file, offset_bytes=0, what=what, derived=False, costs=[]))
    return AnchorProof(
        seqno=given.seqno,
        holds=what is None and sound,
        by=by,
        keyed=given.key is not None and given.mac is not None and what is None,
        not_covered=_not_covered(parts, given.seqno),
    )


def _mac_fault(given: Given) -> str | None:
    if given.key is None:
        return None
    if given.mac is None:
        return "the anchor has no MAC, though there is a key: anybody could have made it"
    if not hmac.compare_digest(_mac(given.key, given.said), given.mac):
        return "the anchor was not made with this key"
    return None


def _mac(key: bytes, said: str) -> str:
    return hmac.digest(key, said.encode(), "sha256").hex()


def _not_covered(parts: Parts, seqno: int) -> list[str]:
    """Volumes of which a part is there that no digest speaks for: a base without one, or that is not as it was taken in any more,
    or records that a compaction has written anew, whose digests are not those of before."""
    compacted_seqno = max((found.last_seqno for found in parts.journal.segments() if found.generation), default=0)
    found = []
    for event in parts.journal.events():
        if event.kind == RecordKind.VOLUME_ADD and event.seqno <= seqno:
            body = decode(event.body, VolumeAdded, "volume", event.seqno)
            is_unproven = body.base and not body.base_digest
            if is_unproven or base_seqno(parts.journal, event.volume) or event.seqno <= compacted_seqno:
                found.append(body.name)
    return found


def _last_sealed(parts: Parts) -> SegmentFacts | None:
    return next((found for found in reversed(parts.journal.segments()) if found.sealed), None)


def _sealed_up_to(parts: Parts, seqno: int) -> SegmentFacts | None:
    """One whose trailer is damaged is sealed all the same, if another follows it."""
    *before, last = parts.journal.segments()
    sealed = [*before, last] if last.sealed else before
    return next((found for found in sealed if found.last_seqno == seqno), None)


def read_key(path: Path, repository: Path) -> bytes:
    """The key in a file, for the repository at a path.

    Raises: UsageError: too short, or in the repository. PermissionDeniedError: others may read it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            content = os.read(fd, KEY_BYTES_MAX) if stat.S_ISREG(found.st_mode) else b""
        finally:
            os.close(fd)
    except OSError as error:
        raise from_os_error(error, f"read the key {path}") from error
    if path.resolve().is_relative_to(repository.resolve()):
        raise UsageError(f"the key {path} is in the repository", hint="keep it where its writers do not come")
    if found.st_mode & 0o077:
        raise PermissionDeniedError(f"the key {path} is open to others", hint=f"chmod 600 {path}")
    if len(content) < KEY_BYTES_MIN:
        raise UsageError(
            f"the key {path} has less than {KEY_BYTES_MIN} bytes", hint="head -c 32 /dev/urandom makes one"
        )
    return content


def _key(parts: Parts, given: bytes | None) -> bytes | None:
    if given is not None and len(given) < KEY_BYTES_MIN:
        raise UsageError(f"the key has less than {KEY_BYTES_MIN} bytes")
    path = parts.settings.check.anchor_key
    return given or (read_key(Path(path), parts.layout.path) if path else None)
