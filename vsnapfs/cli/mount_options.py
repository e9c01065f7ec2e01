"""Options of mount(8) and fstab. Most say what is so anyway, or are meant for others; unknown ones are refused.

mount(8) keeps some of ``_netdev``, ``nofail`` and ``x-…`` to itself and adds ``dev,suid`` when root mounts. The
mount is
always read-only, nosuid, nodev and noexec, whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from vsnapfs.cli.data_option import MODES
from vsnapfs.core.errors import UsageError
from vsnapfs.core.names import near

if TYPE_CHECKING:
    from vsnapfs.core.model import DataMode

ALLOW_OTHER = "allow_other"
DATA = "data="
SOUND_PART = "sound_part"
WITHOUT_EFFECT = frozenset(
    [
        *("defaults", "ro", "rw", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "auto", "noauto"),
        *("user", "users", "nouser", "owner", "group", "_netdev", "nofail", "async", "sync", "default_permissions"),
        *("atime", "noatime", "relatime", "norelatime", "strictatime", "diratime", "nodiratime"),
    ]
)
FOR_OTHERS = ("x-", "X-", "comment=")


class Given(NamedTuple):
    """What the options say; None: nothing."""

    allow_other: bool | None = None
    data: DataMode | None = None
    sound_part: bool = False


def parse(words: Iterable[str]) -> Given:
    """words: each a comma-separated list. Of an option that is given twice the last counts.

    Raises: UsageError: an unknown option, with near ones; a mode that is none.
    """
    given = Given()
    for option in (option for word in words for option in word.split(",") if option):
        if option == ALLOW_OTHER:
            given = given._replace(allow_other=True)
        elif option == SOUND_PART:
            given = given._replace(sound_part=True)
        elif option.startswith(DATA):
            given = given._replace(data=_mode(option.removeprefix(DATA)))
        else:
            _check(option)
    return given


def _mode(text: str) -> DataMode:
    for mode in MODES:
        if text == mode:
            return mode
    raise UsageError(f"mount option data={text}", hint=f"modes are {', '.join(MODES)}")


def _check(option: str) -> None:
    if option in WITHOUT_EFFECT or option.startswith(FOR_OTHERS):
        return
    like = near(option, WITHOUT_EFFECT | {ALLOW_OTHER, SOUND_PART, *(DATA + mode for mode in MODES)})
    raise UsageError(f"unknown mount option {option!r}", hint=f"did you mean {' or '.join(like)}?" if like else None)
