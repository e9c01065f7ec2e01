"""Make the seeds of the fuzzers of files: ``python -m tests.fuzz.make_seeds``.

Those of ``segment`` are pieces of the sample repository of the format (tests/format/golden), as inputs that image.h describes,
and a small journal that was compacted (the C core is built for that); those of Python targets are put together here. Those of
the other C targets were chosen out of what their mutators make. Kept in ``seeds/``: run again only for another format or
another input.
"""

from __future__ import annotations

import struct
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tests.support.archived import REPOSITORY
from tests.support.format_reader import BLOCK, crc32c
from tests.support.journals import Directory
from tests.support.volumes_in_memory import TIME_NS, MemorySource, manifest_of
from vsnapfs.archive import index
from vsnapfs.archive.coding import Coding
from vsnapfs.archive.index import ChunkDigest
from vsnapfs.archive.landing_state import State
from vsnapfs.archive.pieces import Where, index_of
from vsnapfs.archive.stream import Cut
from vsnapfs.archive.sums import SummedStream
from vsnapfs.binding import Journal, RecordKind
from vsnapfs.binding.compact import Wish, compact
from vsnapfs.media.label import encode_label, new_label

HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
GOLDEN = HERE.parent / "format/golden/v1.tar.xz"
SHORT, FILE, SEAL = 0x2000, 0x4000, 0x8000


def encode(files: Iterable[bytes]) -> bytes:
    """An input that stands for these files: see image.h."""
    out = b""
    for number, content in enumerate(files):
        for at in range(0, len(content), BLOCK):
            block = content[at : at + BLOCK]
            head = FILE if at == 0 and number else 0
            if len(block) < BLOCK:
                kept, head = block, head | SHORT
            elif crc32c(block[:-4]) == int.from_bytes(block[-4:], "little"):
                kept, head = block[:-4].rstrip(b"\0"), head | SEAL
            else:
                kept = block.rstrip(b"\0")
            out += struct.pack("<H", head | len(kept)) + kept
    return out


def put(target: str, name: str, content: bytes) -> None:
    directory = SEEDS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)


def data_end(segment: bytes) -> int:
    return int.from_bytes(segment[-BLOCK + 64 : -BLOCK + 72], "little")


def segment_seeds(segments: list[bytes]) -> None:
    first, second = segments[0], segments[1]
    unsealed = first[: data_end(first)]
    put("segment", "sealed", encode([first]))
    put("segment", "unsealed", encode([unsealed]))
    put("segment", "torn", encode([unsealed[:-BLOCK]]))
    put("segment", "zeros-ahead", encode([unsealed + bytes(2 * BLOCK)]))
    put("segment", "two-sealed", encode([first, second]))
    put("segment", "sealed-and-unsealed", encode([first, second[: data_end(second)]]))
    damaged = bytearray(unsealed)
    damaged[3 * BLOCK + 4] ^= 1
    put("segment", "payload-damaged", encode([bytes(damaged)]))
    damaged[2 * BLOCK + 60] ^= 1
    put("segment", "damaged-in-the-middle", encode([bytes(damaged)]))


def _compacted_steps(journal: Journal) -> list[int]:
    """Eight sealed segments and a bit; returns a point in each."""
    points = []
    volume = journal.event(RecordKind.VOLUME_ADD, a=512, b=16 * BLOCK, body=b"{}")[1]
    for step in range(8):
        journal.write(volume, step % 3 * BLOCK + 20, bytes([step + 1]) * 40)
        journal.write(volume, step % 3 * BLOCK + 30, bytes([step + 101]) * 5)
        journal.write(volume, 6 * BLOCK, (bytes([step + 1]) + bytes(BLOCK - 1)) * 3)
        journal.write(volume, 7 * BLOCK, bytes([step + 51]) + bytes(BLOCK - 1))
        journal.zero(volume, step % 2 * 3 * BLOCK, 5000)
        if step == 3:
            journal.event(RecordKind.VOLUME_RESIZE, volume=volume, b=20 * BLOCK)
        points.append(journal.event(RecordKind.BOOKMARK_ADD, body=b"{}")[0])
        journal.write(volume, 12 * BLOCK, b"gone soon")
        journal.seal()
    journal.event(RecordKind.BOOKMARK_ADD, body=b"{}")
    journal.commit()
    return points


def compacted_seeds(path: Path) -> None:
    """A segment that stands for one, between others; one that stands for eight."""
    for name, ordinal, ordinals, each in (("compacted", 0, 1, 2), ("compacted-group", 0, 8, 3)):
        (path / name).mkdir()
        directory = Directory(path / name)
        with directory.open() as journal:
            points = _compacted_steps(journal)
            roots = [*points[::each], journal.facts().last_seqno]
            assert compact(journal, Wish(ordinal, ordinals, roots, points[1:2])) is not None
            journal.superseded()
        files = [file.read_bytes() for file in directory.segments()]
        put("segment", name, encode(files[:4]))
        put("records", name, encode(files[:1]))
        directory.close()


def text_seeds() -> None:
    put("settings", "all", SETTINGS)
    put("settings", "archive", ARCHIVE)
    put("settings", "nested", b'mount = { points = { "nightly-*" = "kernel" }, uid = 5 }\n')
    for number, words in enumerate(WORDS):
        put("words", f"{number:02}", words)
    for number, document in enumerate(DOCUMENTS):
        put("documents", f"{number:02}", document)
    for number, request in enumerate(REQUESTS):
        put("control", f"{number:02}", request)


SETTINGS = b"""[journal]
segment_size = "64M"
ack = "both"
[mount]
allow_other = false
uid = 0
gid = 0
transport = "auto"
data = "verify"
kernel_verify = true
scratch = "/var/tmp"
[mount.points]
"nightly-*" = "kernel"
"""
ARCHIVE = b"""[media.vault]
kind = "pool"
path = "/srv/tapes"
capacity = "1G"
[archive.daily]
bookmarks = ["daily-*", "b"]
to = "vault"
which = "last"
per = "week"
within = "90d"
full = 4
cron = "0 22 * * *"
timezone = "UTC"
protect = "14d"
verify = true
rate = "1M"
"""
WORDS = (
    b"latest", b"@1234", b"2026-11-23T10:15:00.5Z", b"2026-11-23", b"2026-11-23T10:15+01:00", b"-1h30min", b"1.5GiB",
    b"512", b"nightly-1", b"90s",
)  # fmt: skip
DOCUMENTS = (
    b'r{"format": 1, "features": [], "uuid": "6e8394de-498a-4918-988e-07759213fd6e"}',
    b'v{"name":"db0","primary":"repository","base":false}',
    b'v{"name":"db0","primary":{"path":"/dev/sdb"},"base":true}',
    b'b{"name":"first","consistency":"crash","application":"","note":"worked example"}',
    b'n{"name":"first","note":"keep"}',
    b'l{"error": {"kind": "NotFoundError", "exit_status": 3, "message": "no volume", "fields": {"near": ["db0"], "volume": "db1"}}}',
    b'l{"progress": {"doing": "check", "done": 1, "total": 2}}',
    b'l{"result": {"seqno": 5}}',
    (
        b's{"format":1,"id":1,"name":"x","source":"branch:w","parent":"w","seqno":5,"time_ns":7,"bookmark":"a","created_ns":8,"quota_bytes":4096,'
        b'"note":"","report":{"a":[1]},"volumes":[{"name":"db0","id":1,"size_bytes":4096}],"layers":[1,2]}'
    ),
    (
        b'h{"type":"begin","format":1,"id":"0badcafe","time":"","repository":"/r","uuid":"u","good":{"seqno":2,"time":"","time_ns":2},'
        b'"bad":{"seqno":9,"time":"","time_ns":9},"good_state":1,"bad_state":8,"volumes":{"db0":1},"test":["t"],"mount":false,'
        b'"read_only":false,"timeout_s":1.0,"on_timeout":"skip","jobs":1,"partition":null,"quota_bytes":null,"bookmarks_only":false,'
        b'"to_write":false,"trust":false,"safety_bookmark":"s"}\n'
        b'{"type":"named","bookmarks":[{"seqno":5,"time":"","time_ns":5,"bookmark":"b"}],"states":[5]}\n'
        b'{"type":"making","number":1,"state":5,"point":{"seqno":5,"time":"","time_ns":5},"branch":"x","directory":"/x"}\n'
        b'{"type":"told","state":5,"verdict":"bad","probe":{"number":1,"point":{"seqno":5,"time":"","time_ns":5},"verdict":"bad",'
        b'"exit_status":1,"why":"","seconds":0.5,"output":""}}\n{"type":"cleared","number":1}\n'
    ),
)
REQUESTS = (
    b'volume_add\n{"name": "db0", "size_bytes": 1048576}',
    b'volume_list\n{"point": "latest", "removed": true}',
    b'bookmark_add\n{"name": "nightly-1", "at": "-5min", "consistency": "application", "application": "pg", "note": "n"}',
    b'bookmark_show\n{"name": "nightly-1"}',
    b'import\n{"images": {"db0": "/images/db0"}, "bookmark": "b"}',
    b'diff\n{"since": "@1", "until": "latest", "volume": "db0"}',
    b"status\n{}",
    b'check\n{"read_data": true}',
    b'resolve\n{"text": "2026-11-23"}',
    b"commit\n",
)


def tape_seeds() -> None:
    """A label; the stream of a full and of an incremental archive, and the index of each."""
    made = new_label("W00001", "pool", 4096, TIME_NS, note="of the seeds")
    put("tape", "label", b"l" + encode_label(msgspec.structs.replace(made, uuid=REPOSITORY)))
    for name, source in (
        ("full", MemorySource("db0", 12 * BLOCK + 512, [(0, BLOCK), (3 * BLOCK, 2 * BLOCK)])),
        ("incremental", MemorySource("db0", 12 * BLOCK, [(BLOCK, BLOCK)], zeros=[(5 * BLOCK, BLOCK)], changes=True)),
    ):
        stream = SummedStream(manifest_of(incremental=source.changes), [source])
        digest = ChunkDigest()
        content = bytearray()
        for part in stream.read(0, stream.length_bytes):
            stream.take(len(content), part)
            digest.update(part)
            content += part
        whole = Cut(0, stream.length_bytes, None, b"")
        encoded = index.encode(index_of(stream, whole, Where(0, made, 1, None), digest, Coding()))
        put("tape", f"{name}-index", b"i" + encoded)
        put("tape", f"{name}-index-body", b"j" + encoded.partition(b"\n")[2])
        put("tape", f"{name}-stream", b"h" + content)
    put(
        "tape",
        "changes",
        b'c{"volume":"db0","size_bytes":81920,"changed_bytes":8192,"extents":[[4096,4096,0],[40960,4096,1]]}',
    )
    put("tape", "sums", b"s" + b"0" * 64 + b"  MANIFEST.json\n")
    put("tape", "state", b"t" + msgspec.json.encode(State(archives=(REPOSITORY,), wanted=("db0",))))


def main() -> None:
    text_seeds()
    tape_seeds()
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(GOLDEN) as archive:
            archive.extractall(scratch, filter="data")
        repository = Path(scratch) / "v1"
        segment_seeds([path.read_bytes() for path in sorted((repository / "journal").glob("*.seg"))])
        compacted_seeds(Path(scratch))


if __name__ == "__main__":
    main()
