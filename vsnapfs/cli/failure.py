"""The one line that is said when a command fails, and the status it ends with."""

from __future__ import annotations

import json
import sys
import traceback

import click

from vsnapfs.cli.session import Session
from vsnapfs.cli.streams import drop, say
from vsnapfs.cli.table import printable
from vsnapfs.core.errors import UsageError, VsnapfsError, from_os_error, to_object


def report_failure(error: Exception, session: Session) -> int:
    """Say ``vsnapfs: …`` on standard error, or ``{"error": {…}}`` with --json. Returns: the exit status."""
    if session.debug:
        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        drop(sys.stdout)  # whoever read has seen enough, as with `vsnapfs bookmark list | head -1`
        return 1
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    ours = _ours(error)
    if isinstance(error, OSError):
        drop(sys.stdout)
    say(json.dumps({"error": to_object(ours)}) if session.json else printable(f"vsnapfs: {ours}"))
    return ours.exit_status


def _ours(error: Exception) -> VsnapfsError:
    """What went wrong, as one of our errors."""
    if isinstance(error, VsnapfsError):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, OSError):
        return from_os_error(error, f"use {error.filename}" if error.filename else "write standard output")
    return VsnapfsError(f"broke: {type(error).__name__}: {error}", hint="--debug shows where; please report it")


def _usage(error: click.ClickException) -> UsageError:
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        return UsageError(f"no option {error.option_name!r}", hint=f"did you mean {' or '.join(error.possibilities)}?")
    text = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "vsnapfs"
    return UsageError(text[:1].lower() + text[1:], hint=f"see {path} --help")
