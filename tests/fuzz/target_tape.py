"""What stands on a tape, whatever it is: labels, indexes, the heads of a stream, lists of what changed, digests; and how far a recall
came. The first byte says which.

Each is understood, or refused by the one error that belongs to it. An index gets its digest here, so that its figures are reached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import atheris
import msgspec

with atheris.instrument_imports(include=["vsnapfs", "tarfile"]):
    from vsnapfs.archive import heads, index, tar
    from vsnapfs.archive.contents import Contents
    from vsnapfs.archive.landing_state import State
    from vsnapfs.archive.reading import Run
    from vsnapfs.archive.stream import VolumeMap
    from vsnapfs.core.documents import from_json
    from vsnapfs.core.errors import FormatUnknownError, IntegrityError
    from vsnapfs.media.label import decode_label, encode_label

from tests.fuzz.python_target import main, one_line


def unread(_: str, __: int, ___: memoryview) -> None:
    raise AssertionError("nothing of a volume is read here")


def label(content: bytes) -> None:
    try:
        found = decode_label(content, "the tape")
    except (IntegrityError, FormatUnknownError) as error:
        one_line(error)
        return
    if found is not None:
        assert content.rstrip(b"\0") == encode_label(found).rstrip(b"\0")


def piece_index(content: bytes) -> None:
    try:
        found = index.decode(content)
        if found.maps is None:
            return
        contents = Contents.of_index(found, unread)
    except (IntegrityError, FormatUnknownError) as error:
        one_line(error)
        return
    walk_over(contents)


def signed_index(body: bytes) -> None:
    piece_index(index.MAGIC + f"1 {hashlib.sha256(body).hexdigest()}\n".encode() + body)


def in_runs(content: bytes) -> Iterator[Run]:
    """With a loss behind each zero byte of the first sixteen."""
    at = 16
    for number, byte in enumerate(content[:16]):
        if byte == 0 and number:
            yield Run(at, 512, None)
        length = max(len(content) // 16, 512)
        yield Run(at, len(content[at : at + length]), memoryview(content)[at : at + length])
        at += length


def stream(runs: Iterator[Run]) -> None:
    try:
        walked = heads.walk(runs)
        contents = Contents(walked.manifest, walked.maps, unread)
    except (IntegrityError, FormatUnknownError) as error:
        one_line(error)
        return
    walk_over(contents)


def walk_over(contents: Contents) -> None:
    """Every byte of the stream belongs somewhere, once, and data within their volume."""
    sizes = {volume.name: volume.size_bytes for volume in contents.manifest.volumes}
    at = 0
    for member in contents.stream.members:
        for part in contents.parts(member.offset_bytes, member.end_bytes - member.offset_bytes):
            assert part.length_bytes > 0
            at += part.length_bytes
            if part.volume is not None:
                for offset, length in member.extents.places(part.inside, min(part.length_bytes, 1 << 20)):
                    assert 0 <= offset < offset + length <= sizes[part.volume]
    assert at + len(tar.END) == contents.length_bytes


def changes(content: bytes) -> None:
    try:
        found = heads.changes_map(content)
    except IntegrityError as error:
        one_line(error)
        return
    assert isinstance(found, VolumeMap)


def sums(content: bytes) -> None:
    try:
        found = tar.parse_sums(content)
    except IntegrityError as error:
        one_line(error)
        return
    assert all(len(digest) == 64 for digest in found.values())


def state(content: bytes) -> None:
    try:
        from_json(content, State)
    except msgspec.DecodeError:
        return


def run(content: bytes) -> None:
    which, rest = content[:1], content[1:]
    if which == b"l":
        label(rest)
    elif which == b"i":
        piece_index(rest)
    elif which == b"j":
        signed_index(rest)
    elif which == b"h":
        stream(iter([Run(0, len(rest), memoryview(rest))]))
    elif which == b"g":
        stream(in_runs(rest))
    elif which == b"c":
        changes(rest)
    elif which == b"s":
        sums(rest)
    else:
        state(rest)


WORDS = (
    b'"format"', b'"archive"', b'"repository"', b'"made"', b'"kind"', b'"full"', b'"incremental"', b'"name"', b'"point"', b'"since"',
    b'"parent"', b'"volumes"', b'"size_bytes"', b'"stored_bytes"', b'"changed_bytes"', b'"mtime_ns"', b'"block_bytes"', b'"maps"',
    b'"data"', b'"zeros"', b'"stream_offset"', b'"stream_bytes"', b'"head_bytes"', b'"plain_bytes"', b'"chunk_bytes"', b'"crc32c"',
    b'"layout"', b'"extents"', b'"volume"', b"GNU.sparse.realsize", b"GNU.sparse.major", b"GNU.volume.size", b"GNU.volume.offset", b"ustar",
    b"9223372036854775807", b"18446744073709551615", b"AAAAAAAAAAD/////////////", b'"archives"', b'"step"', b'"lost"', b'"db0"',
)  # fmt: skip

if __name__ == "__main__":
    main(run, WORDS)
