"""The command ``restore`` as a process to be killed: it settles often, and says on standard output when it begins.

Run as ``python -m tests.crash.restorer ARGUMENTS…``; the arguments are those of ``vsnapfs``.
"""

from __future__ import annotations

import sys
from importlib import import_module

from vsnapfs.cli.main import run
from vsnapfs.repository import bring

SETTLE_BYTES = 1 << 20
BEGUN = b"begun\n"
LOADED = ("vsnapfs.cli.restore", "vsnapfs.daemon.restore", "vsnapfs.repository.repository")
"""Before it begins, so that the kill comes in the work."""

if __name__ == "__main__":
    for name in LOADED:
        import_module(name)
    bring.SETTLE_BYTES = SETTLE_BYTES
    sys.stdout.buffer.write(BEGUN)
    sys.stdout.flush()
    sys.exit(run(sys.argv[1:]))
