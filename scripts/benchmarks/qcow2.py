"""Chains of qcow2 images with the content of a plain file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.peers import qemu_export
from benchmarks.trace import Write, apply


def make_chain(directory: Path, plain: Path, writes: list[Write], depth: int) -> Path:
    """A base with the content of ``plain``, and ``depth - 1`` overlays that share the writes.

    With depth 1 the base itself is written to. Returns: the top image.
    """
    directory.mkdir()
    top = directory / "0.qcow2"
    _qemu_img("convert", "-f", "raw", "-O", "qcow2", plain, top)
    if depth == 1:
        _write(top, writes)
    for number in range(1, depth):
        below, top = top, directory / f"{number}.qcow2"
        _qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, top)
        _write(top, writes[(number - 1) * len(writes) // (depth - 1) : number * len(writes) // (depth - 1)])
    return top


def _write(image: Path, writes: list[Write]) -> None:
    with qemu_export(image, image.with_suffix(".raw"), writable=True) as shown:
        apply(shown, writes)


def _qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *(str(word) for word in words)], check=True)
