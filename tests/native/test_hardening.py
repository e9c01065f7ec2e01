"""The core as it was built for use: what its file says of protection against defects of ours, as checksec reads it.

Source: native/build_native.py.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from functools import cache

import pytest

pytestmark = pytest.mark.native


@cache
def read(*options: str) -> str:
    """What readelf, which comes with the compiler, says of the extension that is imported."""
    found = importlib.util.find_spec("vsnapfs.binding._native")
    readelf = shutil.which("readelf")
    assert found is not None
    assert found.origin is not None
    assert readelf is not None
    done = subprocess.run([readelf, "-W", *options, found.origin], capture_output=True, text=True, check=True)
    return done.stdout


def imported() -> set[str]:
    """Functions that it takes from elsewhere."""
    return set(re.findall(r"UND (\w+)", read("--dyn-syms")))


def test_tables_of_addresses_cannot_be_written() -> None:
    """Full RELRO: all symbols are bound at the start, and what holds them is read-only from then on."""
    assert "GNU_RELRO" in read("-l")
    assert re.search(r"\(FLAGS\).*BIND_NOW|\(FLAGS_1\).*NOW", read("-d"))


def test_no_memory_can_be_written_and_executed() -> None:
    segments = [line.split() for line in read("-l").splitlines() if re.match(r"\s+(LOAD|GNU_STACK)\s", line)]
    flags = {"".join(words[6:-1]) for words in segments}
    assert flags
    assert not [each for each in flags if "W" in each and "E" in each]
    assert [words for words in segments if words[0] == "GNU_STACK"]


def test_code_needs_no_relocation() -> None:
    assert "TEXTREL" not in read("-d")


def test_it_looks_for_libraries_where_the_system_has_them_alone() -> None:
    assert not re.search(r"\((RPATH|RUNPATH)\)", read("-d"))


def test_overruns_are_noticed() -> None:
    names = imported()
    assert "__stack_chk_fail" in names
    assert {"__memcpy_chk", "__snprintf_chk"} <= names  # fortified, where the compiler knows what fits
    assert not names & {"strcpy", "strcat", "sprintf", "vsprintf", "gets"}


def test_how_it_was_compiled() -> None:
    """What leaves no trace of its own; gcc writes down how it was called."""
    producers = re.findall(r"DW_AT_producer.*: (GNU C1?1? .*)", read("--debug-dump=info", "--dwarf-depth=1"))
    if not producers:
        pytest.skip("not built by gcc, or stripped")
    wanted = {"-fstack-clash-protection", "-fstack-protector-strong"}
    wanted |= {"-fcf-protection"} if platform.machine() in ("x86_64", "i686") else set()
    for producer in producers:
        assert wanted <= {word.split("=")[0] for word in producer.split()}, producer
