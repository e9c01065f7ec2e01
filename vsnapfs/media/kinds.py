"""The medium that a setting means.

Source: docs/tape.md.
"""

from __future__ import annotations

from vsnapfs.media.medium import Medium
from vsnapfs.media.pool import Pool
from vsnapfs.policy.media import MediumSettings, PoolSettings


def open_medium(name: str, settings: MediumSettings) -> Medium:
    """The medium of ``[media.NAME]``. Raises: NotFoundError: its place is not there. StoreError."""
    if isinstance(settings, PoolSettings):
        return Pool(name, settings)
    raise NotImplementedError
