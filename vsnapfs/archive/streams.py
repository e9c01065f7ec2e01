"""What commands took, as tapes that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vsnapfs.archive.given import Slot
from vsnapfs.catalog.tapes import Tapes
from vsnapfs.core.errors import NotFoundError
from vsnapfs.core.tapes import TapeEntry, TapeLabel
from vsnapfs.media.command import CommandTape
from vsnapfs.policy.media import CommandSettings


def stream_tape(catalog: Tapes, tape: TapeEntry, settings: CommandSettings, repository: Path) -> CommandTape:
    """Raises: NotFoundError: the catalog does not know what its command was told."""
    kept = catalog.kept(tape.uuid)
    if kept is None:
        raise NotFoundError(f"no command has taken tape {tape.label}", hint="give the file with --from")
    label = TapeLabel(
        label=tape.label,
        uuid=tape.uuid,
        medium=tape.medium,
        block_bytes=tape.block_bytes,
        made=tape.made,
        generation=tape.generation,
        note=tape.note,
    )
    told = kept.told | {"repo": str(repository)}
    stored_bytes = tape.used_bytes - len(kept.content)
    return CommandTape(tape.medium, settings, label, told, kept.content, stored_bytes)


def slots_of_commands(catalog: Tapes, name: str, settings: CommandSettings, repository: Path) -> Iterator[Slot]:
    """What the command of a medium took, where another gives it back."""
    for tape in catalog.tapes() if settings.read else ():
        if tape.medium == name and tape.files > 1:
            yield Slot(
                tape.label,
                name,
                lambda tape=tape: stream_tape(catalog, tape, settings, repository),  # type: ignore[misc]
            )
