"""Entry of the command: finds the subcommand, and turns whatever goes wrong into one line and an exit status.

Subcommands are loaded when they are asked for, and load what they need when they run, so that help and completion are
quick.

Source: docs/command.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from vsnapfs import __version__
from vsnapfs.cli.failure import report_failure
from vsnapfs.cli.group import NearGroup
from vsnapfs.cli.session import Session, global_options

INTERRUPTED = 130

COMMANDS = {
    "init": "init",
    "volume": "volume",
    "serve": "serve",
    "mount": "mount",
    "bookmark": "bookmark",
    "verify": "verify",
    "branch": "branch",
    "prune": "prune",
    "hunt": "hunt",
    "replay": "replay",
    "import": "import_",
    "export": "export",
    "archive": "archive",
    "tape": "tape",
    "restore": "restore",
    "recall": "recall",
    "diff": "diff",
    "attach": "attach",
    "detach": "detach",
    "status": "status",
    "plan": "plan",
    "events": "events",
    "check": "check",
    "anchor": "anchor",
    "completion": "completion",
}
"""Module below vsnapfs.cli by command; each has a ``command``."""


class LazyGroup(NearGroup):
    """The commands of the table, in its order, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"vsnapfs.cli.{COMMANDS[cmd_name]}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", message="vsnapfs %(version)s")
@global_options(env=True)
def vsnapfs() -> None:
    """Continuous data protection in plain files.

    Every write of a volume goes to its primary and to a journal; each bookmark of the journal is a directory of
    complete volumes. A POINT is a bookmark's name, @SEQNO, a time such as 2026-11-23T10:15:00Z, a span ago such as
    -5min, or latest, the newest bookmark.

    Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not permitted, 5 busy, locked or taken, 6 integrity,
    7 no space, 8 degraded, 9 timed out, 10 format unknown.
    """


def run(args: Sequence[str]) -> int:
    """Carry out a command line. Returns: its exit status; what there is to say has been said."""
    session = Session(json="--json" in args, debug="--debug" in args)
    try:
        status = vsnapfs.main(_from_mount_form(args), prog_name="vsnapfs", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return int(status or 0)
    except click.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  everything ends here, in one line
        return report_failure(error, session)


def main() -> NoReturn:
    """The console script."""
    _occupy_standard_descriptors()
    sys.exit(run(sys.argv[1:]))


def _occupy_standard_descriptors() -> None:
    """A file of the repository must never become descriptor 1 because the caller closed it. Writing there fails."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _from_mount_form(args: Sequence[str]) -> list[str]:
    """``REPO MOUNT -o OPTIONS``, as mount(8) calls the program of ``fuse.vsnapfs``, is ``-r REPO mount …``."""
    if len(args) >= 2 and args[0] not in COMMANDS and not args[0].startswith("-") and Path(args[0]).is_dir():
        return ["--repo", args[0], "mount", *args[1:]]
    return list(args)
