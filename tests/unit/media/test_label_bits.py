"""A label of which one bit is another one: it is never taken for a label, by whatever it says then."""

from __future__ import annotations

import pytest

from vsnapfs.core.errors import FormatUnknownError, IntegrityError
from vsnapfs.media.label import decode_label, encode_label, new_label

pytestmark = pytest.mark.unit


def test_every_bit_counts() -> None:
    label = new_label("W00001", "pool", 4096, 1_700_000_000 * 10**9, generation=3, note="the third of the set")
    sound = encode_label(label)
    assert decode_label(sound, "it") == label
    believed = []
    for at in range(len(sound)):
        for bit in range(8):
            content = bytearray(sound)
            content[at] ^= 1 << bit
            try:
                if decode_label(bytes(content), "it") is not None:
                    believed.append((at, bit))
            except (IntegrityError, FormatUnknownError):
                continue
    assert believed == []


def test_what_follows_is_zeros_that_fill_a_block_and_nothing_else() -> None:
    sound = encode_label(new_label("W00001", "pool", 4096, 1_700_000_000 * 10**9))
    assert decode_label(sound.ljust(8192, b"\0"), "it") is not None
    with pytest.raises(IntegrityError):
        decode_label(sound + b"x", "it")
    with pytest.raises(IntegrityError):
        decode_label(sound[:-1], "it")
