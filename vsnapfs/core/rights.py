"""The four rights on a repository that has a server. None brings another.

* read: what is there and how it is: lists, facts, differences, status, check
* bookmark: make bookmarks, and hold them
* delete: remove bookmarks, and release them
* admin: everything that changes what is protected and how: volumes, imports, repairs
"""

from __future__ import annotations

from typing import Literal, get_args

Right = Literal["read", "bookmark", "delete", "admin"]

RIGHTS: tuple[Right, ...] = get_args(Right)
EVERY_RIGHT: frozenset[Right] = frozenset(RIGHTS)
