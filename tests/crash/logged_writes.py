"""Crash states of real filesystems, from a log of all that was written to the disk below them.

Run it as ``python -m tests.crash.logged_writes --filesystem ext4 --count 10000 --seed 1``. It builds the program
tests/harness/harness_logged_writes.c, which says what is done, and becomes it.
"""

from __future__ import annotations

import subprocess
import sys

from tests.harness.building import built

if __name__ == "__main__":
    sys.exit(subprocess.run([str(built("logged_writes")), *sys.argv[1:]], check=False).returncode)
