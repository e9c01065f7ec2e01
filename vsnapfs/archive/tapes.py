"""What is done with tapes themselves: shown, labelled, retired, protected.

None of it needs the journal, or a server; all of it is by the catalog of tapes, and by the media where they can be had.

Source: docs/tape.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from vsnapfs.core.errors import BusyError, NameTakenError, PermissionDeniedError, VsnapfsError
from vsnapfs.core.tapes import TapeDetail, TapeEntry, TapeList, TapePiece, TapeShown, TapeStranger
from vsnapfs.core.times import iso
from vsnapfs.media.choice import next_label, written_ns
from vsnapfs.media.kinds import Ask, open_medium
from vsnapfs.media.label import new_label
from vsnapfs.media.medium import TapeSeen
from vsnapfs.media.tape import Tape
from vsnapfs.policy.media import CommandSettings, MediumSettings, PoolSettings, kind_of
from vsnapfs.repository.tapes import Shelf, shelf

NAMED_MAX = 3
"""So many archives are named in an error."""


def tape_list(repository: Path, medium: str | None = None, *, look: bool = False) -> TapeList:
    """Tapes of the repository at a path. medium: of this one alone. look: also into drives and changers, which may have to move.

    Raises: NotFoundError: no such medium. IntegrityError: the catalog of tapes is damaged.
    """
    with shelf(repository) as found:
        chosen = found.media if medium is None else {medium: found.settings_of(medium)}
        seen = {name: _seen(name, settings, look=look) for name, settings in chosen.items()}
        with found.tapes.reading():
            known = found.tapes.tapes()
            shown = [
                _shown(found, tape, seen.get(tape.medium, ([], []))[0])
                for tape in known
                if medium is None or tape.medium == medium
            ]
        labels = {tape.label for tape in known}
        return TapeList(
            tapes=shown,
            strangers=[
                each for name, (tapes, names) in seen.items() for each in _strangers(name, tapes, names, labels)
            ],
        )


def tape_show(repository: Path, label: str) -> TapeDetail:
    """Raises: NotFoundError: the catalog has no such tape."""
    with shelf(repository) as found:
        medium = found.tapes.tape(label).medium
        settings = found.media.get(medium)
        seen = [] if settings is None else _seen(medium, settings, look=False)[0]
        with found.tapes.reading():
            tape = found.tapes.tape(label)
            archives = {entry.uuid: entry for entry in found.tapes.archives()}
            pieces = [
                TapePiece(
                    file=piece.file,
                    archive=piece.archive,
                    number=piece.number,
                    point=archives[piece.archive].point,
                    kind=archives[piece.archive].kind,
                    archive_state=archives[piece.archive].state,
                    stored_bytes=piece.stored_bytes,
                    sha256=piece.sha256,
                )
                for piece in found.tapes.pieces_on(tape.uuid)
            ]
            needed_by = [entry.uuid for entry in found.tapes.depending_on(tape.uuid)]
            return TapeDetail(tape=_shown(found, tape, seen), pieces=pieces, needed_by=needed_by)


def tape_label(
    repository: Path, medium: str, label: str | None, *, note: str = "", force: bool = False, ask: Ask | None = None
) -> TapeShown:
    """Write a label: on a new tape of a pool, or on the tape in the drive, or of that barcode. label: None: the next of the pattern.

    Raises: NameTakenError: something stands on it, and ``force`` was not given. PermissionDeniedError: it is protected.
    """
    with shelf(repository, write=True) as found:
        settings = found.settings_of(medium)
        with closing(open_medium(medium, settings, ask)) as opened:
            known = {tape.label: tape for tape in found.tapes.tapes()}
            taken = {*known, *(tape.label for tape in opened.tapes() if tape.label is not None)}
            chosen = next_label(settings.labels, taken) if label is None else label
            _require_free(known.get(chosen), medium, force=force)
            with closing(opened.load_blank(chosen)) as tape:
                _write_label(found, tape, settings, medium, chosen, note, force=force)
            return _shown(found, found.tapes.tape(chosen), opened.tapes() if isinstance(settings, PoolSettings) else [])


def tape_retire(repository: Path, label: str, *, force: bool = False) -> TapeShown:
    """Nothing on the tape counts any more. Raises: BusyError: archives on other tapes need it, and ``force`` was not given."""
    with shelf(repository, write=True) as found:
        tape = found.tapes.tape(label)
        on_it = {piece.archive for piece in found.tapes.pieces_on(tape.uuid)}
        others = [entry.uuid for entry in found.tapes.depending_on(tape.uuid) if entry.uuid not in on_it]
        if others and not force:
            named = ", ".join(others[:NAMED_MAX]) + (" and more" if len(others) > NAMED_MAX else "")
            what = f"{len(others)} archives on other tapes need what is on tape {label}: {named}"
            raise BusyError(what, hint="retire theirs first, or --force, which gives them up too")
        return _shown(found, found.tapes.retire(label, time.time_ns()), [])


def tape_protect(repository: Path, label: str, *, protected: bool) -> TapeShown:
    """Nothing more is written to the tape, or may be again. Raises: NotFoundError."""
    with shelf(repository, write=True) as found:
        return _shown(found, found.tapes.protect(label, protected=protected), [])


def tape_labels(repository: Path) -> list[str]:
    """Those of the catalog, for a shell that completes them."""
    with shelf(repository) as found:
        return [tape.label for tape in found.tapes.tapes()]


def medium_names(repository: Path) -> list[str]:
    """Those of the settings, for a shell that completes them."""
    with shelf(repository) as found:
        return list(found.media)


def looked_into(name: str, settings: MediumSettings) -> list[TapeSeen]:
    """Tapes that a medium has now. Raises: NotFoundError: its place is not there. BusyError, StoreError."""
    with closing(open_medium(name, settings)) as medium:
        return medium.tapes()


def _seen(name: str, settings: MediumSettings, *, look: bool) -> tuple[list[TapeSeen], list[str]]:
    """Tapes that a medium has, and what else is there; nothing of one that cannot be had. A drive is not looked into unasked."""
    if kind_of(settings) == "command" or (kind_of(settings) == "drive" and not look):
        return [], []
    try:
        with closing(open_medium(name, settings)) as medium:
            return medium.tapes(), medium.foreign()
    except VsnapfsError:
        if look:
            raise
        return [], []


def _shown(found: Shelf, tape: TapeEntry, seen: list[TapeSeen]) -> TapeShown:
    here = next((each for each in seen if each.label == tape.label), None)
    settings = found.media.get(tape.medium)
    free_ns = None
    if isinstance(settings, CommandSettings):
        settings = None  # what a command took is never written over
    if tape.state == "retired" and not tape.protected and settings is not None:
        free_ns = max(written_ns(tape) + settings.retention_ns, tape.retired_ns or 0)
    return TapeShown(
        **msgspec.structs.asdict(tape),
        written=None if tape.written_ns is None else iso(tape.written_ns),
        retired=None if tape.retired_ns is None else iso(tape.retired_ns),
        free_from=None if free_ns is None else iso(free_ns),
        archives=len({piece.archive for piece in found.tapes.pieces_on(tape.uuid)}),
        place=None if here is None else here.place,
        capacity_bytes=None if here is None else here.capacity_bytes,
        read_only=here is not None and here.read_only,
    )


def _strangers(medium: str, seen: list[TapeSeen], names: list[str], labels: set[str]) -> Iterator[TapeStranger]:
    for tape in seen:
        if tape.label is None or tape.label not in labels:
            yield TapeStranger(medium=medium, place=tape.place, label=tape.label, blank=tape.blank)
    for name in names:
        yield TapeStranger(medium=medium, place=name, label=None, blank=False)


def _require_free(known: TapeEntry | None, medium: str, *, force: bool) -> None:
    """Before a tape is loaded, which may be another one than the catalog knows by that label."""
    if known is None:
        return
    if known.medium != medium:
        raise NameTakenError(f"a tape of {known.medium} has the label {known.label}", hint="choose another")
    if known.protected:
        what = f"tape {known.label} is protected"
        raise PermissionDeniedError(what, hint=f"`vsnapfs tape protect {known.label} --off`")
    if known.files > 1 and known.state != "retired" and not force:
        raise NameTakenError(
            f"tape {known.label} holds archives", hint="retire it, or --force, which gives them up wherever it is"
        )


def _write_label(
    found: Shelf, tape: Tape, settings: MediumSettings, medium: str, label: str, note: str, *, force: bool
) -> None:
    known = {entry.uuid: entry for entry in found.tapes.tapes()}
    entry = known.get(tape.label.uuid) if tape.label is not None else None
    if entry is not None and entry.protected:
        raise PermissionDeniedError(
            f"tape {entry.label} is protected", hint=f"`vsnapfs tape protect {entry.label} --off`"
        )
    if tape.read_only:
        raise PermissionDeniedError(f"{tape.name} is write-protected")
    if not tape.blank and not force:
        what = f"has the label {tape.label.label}" if tape.label is not None else "holds something else"
        raise NameTakenError(f"{tape.name} {what}", hint="--force writes over it, and all that is on it is gone")
    before = [each.generation for each in known.values() if each.label == label]
    generation = 1 + max(before + ([] if tape.label is None else [tape.label.generation]), default=0)
    wanted = new_label(label, medium, settings.block_bytes, time.time_ns(), generation=generation, note=note)
    tape.require_unread()
    if entry is not None and entry.label != label:
        found.tapes.forget_tape(entry.label)
    found.tapes.begin_tape(wanted, force=force)
    tape.write_label(wanted)
