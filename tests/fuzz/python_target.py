"""What the Python targets share: the libFuzzer loop, mutations by words, and what every error of ours must be."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Sequence

import atheris

from vsnapfs.core.errors import VsnapfsError, from_object, to_object

_WORD = re.compile(rb"[A-Za-z_]+|[0-9]+|\s+|.", re.DOTALL)
COMMON = (
    b"0", b"1", b"-1", b"4096", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1e999", b"0.5",
    b'"', b"'", b"\\", b"\\u0000", b"\\ud800", b"\xff", b"\xed\xa0\x80", b"\xc2\xa0", b"\xe2\x80\xa8", b"\x85", b"\0", b"\n", b"\t", b" ",
    b"{", b"}", b"[", b"]", b",", b":", b"=", b".", b"..", b"/", b"true", b"false", b"null", b"{}", b"[]", b"[" * 200, b'{"a":' * 200,
)  # fmt: skip
"""What breaks parsers of text."""


def one_line(error: VsnapfsError) -> None:
    """An error is one line of text that says something, and crosses the control socket as it is."""
    text = str(error)
    assert text.strip(), repr(error)
    assert text.splitlines() == [text], repr(text)
    again = from_object(to_object(error))
    assert type(again) is type(error), (again, error)
    assert str(again) == text, (again, error)


def _change(words: list[bytes], vocabulary: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(words) + 1)
    end = min(len(words), at + chance.choice((1, 1, 2, 5)))
    kind = chance.randrange(6)
    if kind == 0:
        del words[at:end]
    elif kind == 1:
        words[at:at] = words[at:end]
    elif kind == 2:
        words[at:at] = [chance.choice(vocabulary)]
    elif kind == 3:
        words[at:end] = [chance.choice(vocabulary)]
    elif kind == 4 and words:
        other = chance.randrange(len(words))
        words[at:end], words[other : other + 1] = words[other : other + 1], words[at:end]
    else:
        words[at:at] = [chance.choice(vocabulary)] * chance.choice((2, 3, 50))


def mutator(vocabulary: Sequence[bytes]) -> Callable[[bytes, int, int], bytes]:
    """Bytes as libFuzzer changes them, or words that a parser knows."""
    known = (*vocabulary, *vocabulary, *COMMON)

    def mutate(content: bytes, room: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.randrange(3) == 0:
            return bytes(atheris.Mutate(content, room))
        words = _WORD.findall(content)
        for _ in range(chance.choice((1, 1, 2, 4))):
            _change(words, known, chance)
        return b"".join(words)[:room]

    return mutate


def main(run: Callable[[bytes], None], vocabulary: Sequence[bytes]) -> None:
    """Never returns: libFuzzer takes the program's arguments."""
    atheris.Setup(sys.argv, run, custom_mutator=mutator(vocabulary))
    atheris.Fuzz()
