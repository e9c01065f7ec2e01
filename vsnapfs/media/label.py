"""Tape file 0: a tar of one member, so that any tar says whose tape it is. It has the digest of what it says in it, and every byte
of it is known from that: so no bit of it can change unnoticed.

Source: docs/tape-format.md, section on the label.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import uuid as uuids

import msgspec

from vsnapfs.core.documents import from_json
from vsnapfs.core.errors import FormatUnknownError, IntegrityError, UsageError, VsnapfsError
from vsnapfs.core.names import check_name
from vsnapfs.core.tapes import LABEL_FORMAT, TapeLabel
from vsnapfs.core.times import NS_PER_S, iso, parse_iso

MEMBER = "VSNAPFS-TAPE.json"
LABEL_BYTES_MAX = 16 << 10
"""More is not read of a tape to see whose it is."""
NOTE_LENGTH_MAX = 1024
_MODE = 0o444


def new_label(
    label: str, medium: str, block_bytes: int, now_ns: int, *, generation: int = 1, note: str = ""
) -> TapeLabel:
    """Of a tape that is written from its beginning now. Raises: UsageError: no name for a tape, or no note."""
    check_name(label, "tape")
    if len(note) > NOTE_LENGTH_MAX or not (note.isprintable() or not note):
        raise UsageError(f"the note of tape {label} is no line of at most {NOTE_LENGTH_MAX} characters")
    return TapeLabel(
        label=label,
        uuid=str(uuids.uuid4()),
        medium=medium,
        block_bytes=block_bytes,
        made=iso(now_ns),
        generation=generation,
        note=note,
    )


def encode_label(label: TapeLabel) -> bytes:
    """The whole tape file, a function of the label alone."""
    said = msgspec.json.encode(label)
    with_digest = msgspec.to_builtins(label) | {"sha256": hashlib.sha256(said).hexdigest()}
    content = msgspec.json.format(msgspec.json.encode(with_digest), indent=2) + b"\n"
    member = tarfile.TarInfo(MEMBER)
    member.size = len(content)
    member.mode = _MODE
    member.mtime = parse_iso(label.made) // NS_PER_S
    header = member.tobuf(tarfile.USTAR_FORMAT)
    padding = -len(content) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE
    return header + content + bytes(padding)


def decode_label(content: bytes, place: str) -> TapeLabel | None:
    """What the first bytes of a tape say; None: they are not ours. place: the tape, for people.

    Raises: IntegrityError: ours, and damaged. FormatUnknownError: of a newer version.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            member = archive.next()
            if member is None or member.name != MEMBER:
                return None
            opened = archive.extractfile(member)
            text = b"" if opened is None else opened.read(LABEL_BYTES_MAX)
    except (tarfile.TarError, ValueError, OSError, EOFError, OverflowError):
        if content.startswith(MEMBER.encode()):
            raise IntegrityError(f"the label of {place} is damaged") from None
        return None
    label = _read(text, place)
    try:
        encoded = encode_label(label)
    except (ValueError, OverflowError) as error:  # of a time that no header can have
        raise IntegrityError(f"the label of {place} is damaged: {error}") from error
    if content[: len(encoded)] != encoded or any(content[len(encoded) :]):
        raise IntegrityError(f"the label of {place} is damaged: it is not as it was written")
    return label


def _read(text: bytes, place: str) -> TapeLabel:
    try:
        found = from_json(text, dict[str, msgspec.Raw])
        version = from_json(found["format"], int) if "format" in found else 0
        if version > LABEL_FORMAT:
            what = f"the label of {place} has format {version}, this program knows {LABEL_FORMAT}"
            raise FormatUnknownError(what, hint="use a newer vsnapfs")
        label = from_json(text, TapeLabel)
        check_name(label.label, "tape")
        parse_iso(label.made)
        uuids.UUID(label.uuid)
    except FormatUnknownError:
        raise
    except (msgspec.DecodeError, VsnapfsError, ValueError) as error:
        raise IntegrityError(f"the label of {place} is damaged: {error}") from error
    return label
