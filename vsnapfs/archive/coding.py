"""How a piece is stored: as it is, compressed (zstd, one frame), encrypted (age, one file), or first the one and then the other.

Encryption is the program age's: it is kept by those who made the format, works in a process of its own beside ours, and who has a tape
and an identity needs nothing else. The same pieces are read with ``age --decrypt`` and ``zstd -d`` and tar.

Source: docs/tape-format.md, section on pieces; https://age-encryption.org/v1.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import zstandard

from vsnapfs.archive.feed import Block, kept
from vsnapfs.archive.index import Compression, Encryption
from vsnapfs.core.errors import IntegrityError, NotFoundError, StoreError, UsageError

Blocks = Generator[Block, None, None]

EXTENSION = "tar"
LEVEL = 1
THREADS_MAX = 4
WINDOW_BYTES_MAX = 1 << 27
"""What zstd itself takes without being told to; ours are smaller."""
READ_BYTES = 1 << 20
AGE = "age"
NOT_FOR_THESE = "no identity matched"
"""What age says of a file that none of the identities can read."""


class Coding(NamedTuple):
    """recipients: public keys that it is encrypted to; none: it is not."""

    compression: Compression | None = None
    recipients: tuple[str, ...] = ()

    @property
    def encryption(self) -> Encryption | None:
        return "age" if self.recipients else None

    @property
    def extension(self) -> str:
        """Of a piece's file in a pool."""
        ends = [EXTENSION, *(["zst"] if self.compression else []), *(["age"] if self.recipients else [])]
        return ".".join(ends)


def require(coding: Coding) -> None:
    """Try it on nothing. Raises: NotFoundError: age is not installed. UsageError: it refuses a recipient."""
    for _ in encoded(_none(), coding):
        pass


def encoded(blocks: Blocks, coding: Coding) -> Blocks:
    """What is stored of a piece. What it is made of is freed when it is used.

    Raises: as ``require``, and whatever ``blocks`` does. Concurrency: with encryption ``blocks`` is taken in a thread of its own.
    """
    if coding.compression:
        blocks = _compressed(blocks)
    if coding.recipients:
        blocks = _encrypted(blocks, coding.recipients)
    return blocks


def decoded(
    chunks: Iterable[bytes | memoryview],
    compression: Compression | None,
    encryption: Encryption | None,
    identities: Sequence[Path] = (),
) -> Iterator[bytes | memoryview]:
    """What a piece was made of. A piece that ends too early may give less than that and no error: its index tells how much there is.

    Args: identities: files of private keys, as age takes them.
    Raises: IntegrityError: it cannot be decoded further. UsageError: none of the identities is for it. NotFoundError: age.
    """
    if encryption:
        if not identities:
            raise UsageError("the piece is encrypted", hint="give the file of a private key: --identity FILE")
        chunks = _decrypted(iter(chunks), identities)
    return _decompressed(iter(chunks)) if compression else iter(chunks)


def _none() -> Blocks:
    yield from ()


def _compressed(blocks: Blocks) -> Blocks:
    threads = min(os.cpu_count() or 1, THREADS_MAX)
    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=threads, write_checksum=True).compressobj()
    for block in blocks:
        content = compressor.compress(block.memory)
        block.free()
        if content:
            yield kept(content)
    yield kept(compressor.flush())


def _decompressed(chunks: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
    reader = decompressor.stream_reader(io.BufferedReader(_ChunkFile(chunks)), read_size=READ_BYTES)
    try:
        while content := reader.read(READ_BYTES):
            yield content
    except zstandard.ZstdError as error:
        raise IntegrityError(f"a piece cannot be decompressed: {error}") from error


class _ChunkFile(io.RawIOBase):
    """Chunks as a file to read."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """0: no more comes."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._left))
        target[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _encrypted(blocks: Blocks, recipients: Sequence[str]) -> Blocks:
    command = [AGE, "--encrypt", *(word for recipient in recipients for word in ("--recipient", recipient))]
    through = _Through(command)
    with closing(through.run(blocks)) as contents:
        for content in contents:
            yield kept(content)
    if through.said:
        raise UsageError(f"age refuses to encrypt: {through.said}")


def _decrypted(chunks: Iterator[bytes | memoryview], identities: Sequence[Path]) -> Iterator[bytes]:
    command = [AGE, "--decrypt", *(word for path in identities for word in ("--identity", str(path)))]
    through = _Through(command)
    blocks = (kept(bytes(chunk)) for chunk in chunks)
    yield from through.run(blocks)
    if through.said:
        error = UsageError if NOT_FOR_THESE in through.said else IntegrityError
        raise error(f"a piece cannot be decrypted: {through.said}")


class _Through:
    """Blocks through a program: a thread writes to it, whoever iterates reads from it."""

    def __init__(self, command: list[str]) -> None:
        """Raises: NotFoundError: the program is not installed."""
        if shutil.which(command[0]) is None:
            raise NotFoundError(f"the program {command[0]} is not installed", hint=f"apt-get install {command[0]}")
        self._command = command
        self._error: BaseException | None = None
        self.said = ""
        """Of a program that failed: the last line of what it said."""

    def run(self, blocks: Iterator[Block]) -> Generator[bytes, None, None]:
        """What comes out. Raises: whatever ``blocks`` does. StoreError: the program cannot be run."""
        with tempfile.TemporaryFile() as errors:
            process = self._start(errors)
            assert process.stdin is not None
            assert process.stdout is not None
            feeding = threading.Thread(target=self._feed, args=(process.stdin, blocks), daemon=True)
            feeding.start()
            try:
                while content := process.stdout.read(READ_BYTES):
                    yield content
                process.wait()
            finally:
                process.kill()  # what was given up half-way
                process.stdout.close()
                process.wait()
                feeding.join()
            if self._error is not None:
                raise self._error
            if process.returncode != 0:
                self.said = _last_line(errors) or f"it ended with {process.returncode}"

    def _start(self, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        """In a process group of its own: Ctrl-C is for us, who end it then."""
        try:
            return subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, process_group=0
            )
        except OSError as error:
            raise StoreError(f"cannot run {self._command[0]}: {error.strerror}") from error

    def _feed(self, stdin: IO[bytes], blocks: Iterator[Block]) -> None:
        try:
            for block in blocks:
                stdin.write(block.memory)
                block.free()
        except BrokenPipeError:
            pass  # it says itself why it ended
        except BaseException as error:  # noqa: BLE001  raised again by who iterates
            self._error = error
        finally:
            with suppress(OSError):
                stdin.close()


def _last_line(errors: IO[bytes]) -> str:
    """age ends with an advertisement of its tracker, in brackets."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read(1 << 16).decode("utf-8", "replace").splitlines()]
    said = [line.removeprefix("age: ").removeprefix("error: ") for line in lines if line.startswith("age: ")]
    return next((line for line in said if not line.startswith("report unexpected")), "")
