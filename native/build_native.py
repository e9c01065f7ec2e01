"""Build the C core as the extension ``vsnapfs.binding._native`` (cffi, API mode, stable ABI).

What Python sees of the core is exactly the text between ``CFFI-BEGIN`` and ``CFFI-END`` of the headers below, so that a
declaration stands once. ``VSNAPFS_WERROR=1`` in the environment makes compiler warnings errors.

Used by setup.py (``cffi_modules``); its working directory, and what paths are relative to, is the top of the checkout.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from cffi import FFI

NATIVE = Path(__file__).parent
HEADERS = (
    "status",
    "beneath",
    "store_ops",
    "keep",
    "volume_file",
    "journal",
    "compact",
    "hold",
    "view",
    "replay",
    "branch",
    "kernel_view",
    "base",
    "base_move",
    "memory",
    "priority",
    "checksum",
    "plane",
)
"""Headers with a region for Python; each stands after those it needs."""

LIBRARIES = ["isal", "crypto", "pthread"]
COMPILE_ARGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-UNDEBUG",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wformat=2",
    "-Werror=format-security",
    "-fvisibility=hidden",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=3",
    "-fstack-protector-strong",
    "-fstack-clash-protection",
    *(["-fcf-protection"] if platform.machine() in ("x86_64", "i686") else []),
]
LINK_ARGS = ["-Wl,-z,relro,-z,now,-z,noexecstack,-z,text"]
"""Hardening costs nothing that could be measured; tests/native/test_hardening.py reads what became of it."""

_REGION = re.compile(r"/\* CFFI-BEGIN \*/(.*?)/\* CFFI-END \*/", re.DOTALL)


def declarations(header: Path) -> str:
    """What a header offers to Python.

    Raises: ValueError: it has no region, which is a slip in HEADERS or in the header.
    """
    regions = _REGION.findall(header.read_text(encoding="utf-8"))
    if not regions:
        raise ValueError(f"{header}: no region between CFFI-BEGIN and CFFI-END")
    return "\n".join(regions)


def make_ffi() -> FFI:
    """The builder that setuptools turns into an extension module."""
    ffi = FFI()
    for name in HEADERS:
        ffi.cdef(declarations(NATIVE / "include" / f"{name}.h"))
    werror = ["-Werror"] if os.environ.get("VSNAPFS_WERROR") == "1" else []
    ffi.set_source(
        "vsnapfs.binding._native",
        "".join(f'#include "{name}.h"\n' for name in HEADERS),
        sources=sorted(str(path) for path in NATIVE.glob("src/*.c")),
        depends=[__file__, *sorted(str(path) for path in NATIVE.glob("*/*.h"))],
        include_dirs=[str(NATIVE / "include"), str(NATIVE / "src")],
        libraries=LIBRARIES,
        extra_compile_args=COMPILE_ARGS + werror,
        extra_link_args=LINK_ARGS,
        py_limited_api=True,
    )
    return ffi


ffibuilder = make_ffi()
