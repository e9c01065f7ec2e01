"""Options of mount(8) and fstab. Most say what is so anyway, or are meant for others; unknown ones are refused.

mount(8) keeps some of ``_netdev``, ``nofail`` and ``x-…`` to itself and adds ``dev,suid`` when root mounts. The
mount is
always read-only, nosuid, nodev and noexec, whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterable

from vsnapfs.core.errors import UsageError
from vsnapfs.core.names import near

ALLOW_OTHER = "allow_other"
WITHOUT_EFFECT = frozenset(
    [
        *("defaults", "ro", "rw", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "auto", "noauto"),
        *("user", "users", "nouser", "owner", "group", "_netdev", "nofail", "async", "sync", "default_permissions"),
        *("atime", "noatime", "relatime", "norelatime", "strictatime", "diratime", "nodiratime"),
    ]
)
FOR_OTHERS = ("x-", "X-", "comment=")


def parse(words: Iterable[str]) -> bool | None:
    """Whether other users may look in; None when the options do not say. words: each a comma-separated list.

    Raises: UsageError: an unknown option, with near ones.
    """
    options = [option for word in words for option in word.split(",") if option]
    for option in options:
        _check(option)
    return True if ALLOW_OTHER in options else None


def _check(option: str) -> None:
    known = WITHOUT_EFFECT | {ALLOW_OTHER}
    if option in known or option.startswith(FOR_OTHERS):
        return
    like = near(option, known)
    raise UsageError(f"unknown mount option {option!r}", hint=f"did you mean {' or '.join(like)}?" if like else None)
