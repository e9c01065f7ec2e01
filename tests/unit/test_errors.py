"""Errors: one line, one status, one errno, and the same on both sides of the control socket."""

from __future__ import annotations

import errno
import json

import pytest

from vsnapfs.core import errors as e

STATUSES = [
    (e.VsnapfsError, 1, errno.EIO),
    (e.UsageError, 2, errno.EINVAL),
    (e.NameTooLongError, 2, errno.ENAMETOOLONG),
    (e.NotFoundError, 3, errno.ENOENT),
    (e.PointGoneError, 3, errno.ENOENT),
    (e.PermissionDeniedError, 4, errno.EPERM),
    (e.ReadOnlyError, 4, errno.EROFS),
    (e.NameTakenError, 5, errno.EEXIST),
    (e.BusyError, 5, errno.EBUSY),
    (e.LockedError, 5, errno.EBUSY),
    (e.IntegrityError, 6, errno.EIO),
    (e.CorruptExtentError, 6, errno.EIO),
    (e.JournalBehindError, 6, errno.EIO),
    (e.NoSpaceError, 7, errno.ENOSPC),
    (e.DegradedError, 8, errno.EIO),
    (e.GapError, 8, errno.ENOENT),
    (e.TimedOutError, 9, errno.ETIMEDOUT),
    (e.QuiesceError, 1, errno.EIO),
    (e.NotStillError, 1, errno.EIO),
    (e.HuntAbortedError, 1, errno.EIO),
    (e.UntestableError, 1, errno.EIO),
    (e.FormatUnknownError, 10, errno.EPROTONOSUPPORT),
    (e.StoreError, 1, errno.EIO),
    (e.ServerGoneError, 1, errno.EIO),
]


@pytest.mark.parametrize(("cls", "exit_status", "code"), STATUSES)
def test_each_class_has_its_exit_status_and_errno(cls: type[e.VsnapfsError], exit_status: int, code: int) -> None:
    assert (cls("x").exit_status, cls("x").errno) == (exit_status, code)


def test_the_table_names_every_class() -> None:
    def below(cls: type[e.VsnapfsError]) -> set[type[e.VsnapfsError]]:
        return {cls}.union(*(below(sub) for sub in cls.__subclasses__()))

    assert {cls for cls, _, _ in STATUSES} == {cls for cls in below(e.VsnapfsError) if cls.__module__ == e.__name__}


def test_str_is_one_line_with_hint_and_near_names() -> None:
    error = e.NotFoundError("no bookmark\n'mundai'", hint="see\tbookmark list", near=["monday", "sunday"])
    assert str(error) == "no bookmark 'mundai'; see bookmark list; did you mean monday or sunday?"


def test_fields_are_those_that_apply() -> None:
    error = e.CorruptExtentError("bad block", volume="db0", segment=17, offset_bytes=0)
    assert error.fields() == {"volume": "db0", "segment": 17, "offset_bytes": 0}


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (-errno.EBADMSG, e.CorruptExtentError),
        (-errno.EUCLEAN, e.IntegrityError),
        (-errno.EXDEV, e.IntegrityError),
        (-errno.EPROTONOSUPPORT, e.FormatUnknownError),
        (-errno.ERANGE, e.PointGoneError),
        (-errno.EROFS, e.ReadOnlyError),
        (-errno.EIO, e.StoreError),
        (-errno.ENOSPC, e.NoSpaceError),
        (errno.EDQUOT, e.NoSpaceError),
        (-errno.EINVAL, e.UsageError),
        (-errno.ELOOP, e.IntegrityError),
    ],
)
def test_codes_of_the_c_core_have_their_classes(code: int, cls: type[e.VsnapfsError]) -> None:
    error = e.from_errno(code, "text", seqno=4)
    assert (type(error), error.seqno) == (cls, 4)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (errno.ENOENT, e.NotFoundError),
        (errno.EACCES, e.PermissionDeniedError),
        (errno.ENOSPC, e.NoSpaceError),
        (errno.EXDEV, e.StoreError),
        (errno.EINVAL, e.StoreError),
        (errno.EPIPE, e.StoreError),
    ],
)
def test_codes_of_the_operating_system_keep_their_own_meaning(code: int, cls: type[e.VsnapfsError]) -> None:
    error = e.from_os_error(OSError(code, "reason"), "write /tmp/x")
    assert (type(error), str(error)) == (cls, "cannot write /tmp/x: reason")


@pytest.mark.parametrize(
    "error",
    [
        e.NotFoundError("no volume 'a'", near=["b"], hint="look", volume="a"),
        e.LockedError("locked", pid=7),
        e.PointGoneError("gone", seqno=3),
        e.VsnapfsError("x"),
    ],
)
def test_an_error_survives_the_socket(error: e.VsnapfsError) -> None:
    again = e.from_object(json.loads(json.dumps(e.to_object(error))))
    assert (type(again), str(again), again.fields()) == (type(error), str(error), error.fields())


def test_with_hint_replaces_what_to_do_and_nothing_else() -> None:
    error = e.with_hint(e.NoSpaceError("disk full", volume="db0", hint="buy one"), "see x.partial")
    assert (type(error), str(error), error.volume) == (e.NoSpaceError, "disk full; see x.partial", "db0")


def test_an_object_of_a_newer_kind_still_speaks() -> None:
    obj = {"kind": "EclipseError", "exit_status": 12, "message": "dark", "fields": {"moon": 1, "volume": "db0"}}
    again = e.from_object(obj)
    assert (type(again), str(again), again.volume) == (e.VsnapfsError, "dark", "db0")


def test_a_field_of_a_newer_version_is_left_out() -> None:
    obj = {"kind": "NotFoundError", "exit_status": 3, "message": "no volume", "fields": {"moon": 1, "volume": "db0"}}
    again = e.from_object(obj)
    assert (type(again), str(again), again.volume) == (e.NotFoundError, "no volume", "db0")


def test_near_names_are_of_the_one_line_too() -> None:
    assert str(e.NotFoundError("no volume", near=["a\nb"])) == "no volume; did you mean a b?"
