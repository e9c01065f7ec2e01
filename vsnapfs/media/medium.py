"""Where tapes come from: what a ``[media.NAME]`` of the settings says, as an object that loads them.

A medium knows what it sees; what is known of a tape beyond that (who is retired, what counts on it) is the catalog's and is
given to it as ``known``.

Source: docs/tape.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from vsnapfs.core.tapes import TapeEntry, TapeLabel
from vsnapfs.media.tape import Tape

Begun = Callable[[TapeLabel], None]
"""Is told of a label before it is written: what the catalog knew to be on that tape is gone from now on."""


class TapeSeen(NamedTuple):
    """A tape that a medium has. label: by its directory, its barcode or its label; None: it has to be loaded to know."""

    label: str | None
    place: str
    """For people: a directory, a slot, a drive."""
    used_bytes: int | None
    capacity_bytes: int | None
    read_only: bool
    blank: bool
    """True: it is known that nothing stands on it."""
    uuid: str | None = None
    """By its label; None: that was not read."""


class Medium(Protocol):
    """Errors of all methods: NotFoundError: no such tape, or none that can be written to; BusyError: it is in use; StoreError."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def tapes(self) -> list[TapeSeen]:
        """Those that are there now, by label."""

    def foreign(self) -> list[str]:
        """What is there and is no tape of ours, for people. It is left alone."""

    def load(self, label: str, *, write: bool = False) -> Tape:
        """The tape of that label, from wherever it is. A changer or a person is asked for it.

        Raises: IntegrityError: what was loaded has another label.
        """

    def load_blank(self, label: str) -> Tape:
        """A tape that can be given ``label``: a new one of a pool, or what is in the drive or in the slot of that barcode."""

    def next(self, known: Sequence[TapeEntry], begun: Begun, *, fresh: bool = False) -> Tape:
        """The tape to write to next, loaded, labelled, cut behind the last file that counts by ``known``.

        It is the one written to last that is open and not protected; else a blank one, which gets the next label; else a retired
        one past its retention, which gets a new label. Never one that counts. A tape whose end was met must be ``full`` in
        ``known``, or it comes again.

        Args: known: tapes of the catalog, of any medium. begun: see Begun. fresh: only one that holds nothing that counts.
        """

    def close(self) -> None: ...
