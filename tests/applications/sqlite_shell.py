"""SQLite as a process that can be killed: statements from standard input, a line of them at a time, rows to standard output.

python -m tests.applications.sqlite_shell FILE
"""

from __future__ import annotations

import sqlite3
import sys

BUSY_S_MAX = 100.0


def main() -> None:
    connection = sqlite3.connect(sys.argv[1], timeout=BUSY_S_MAX, isolation_level=None)
    for line in sys.stdin:
        for statement in line.strip().rstrip(";").split("; "):
            for row in connection.execute(statement):
                print("|".join(map(str, row)), flush=True)
    connection.close()


if __name__ == "__main__":
    try:
        main()
    except sqlite3.Error as error:
        print(f"ERROR: {error}", flush=True)
        sys.exit(1)
