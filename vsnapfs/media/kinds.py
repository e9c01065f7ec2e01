"""The medium that a setting means.

Source: docs/tape.md.
"""

from __future__ import annotations

from vsnapfs.core.errors import UsageError
from vsnapfs.media.changer import Ask, changer_of
from vsnapfs.media.drive import Drive
from vsnapfs.media.ioctl import StDevice
from vsnapfs.media.medium import Medium
from vsnapfs.media.pool import Pool
from vsnapfs.policy.media import CommandSettings, MediumSettings, PoolSettings

__all__ = ["Ask", "open_medium"]


def open_medium(name: str, settings: MediumSettings, ask: Ask | None = None) -> Medium:
    """The medium of ``[media.NAME]``. ask: says a line to a person and returns when it was done; None: nobody is there.

    Raises: NotFoundError: its place is not there. UsageError: it is a command. StoreError.
    """
    if isinstance(settings, CommandSettings):
        raise UsageError(
            f"{name} is a command, which has no tapes of its own", hint="`vsnapfs archive` gives it archives"
        )
    if isinstance(settings, PoolSettings):
        return Pool(name, settings)
    return Drive(name, settings, changer_of(name, settings, ask), StDevice)
