"""Who is at the other end of a connection, and what they may ask for.

The kernel says who connected (SO_PEERCRED) and in which groups they were then (SO_PEERGROUPS); nothing that the peer
sends counts. The server's user and root may do everything, others what ``[control]`` of the settings gives them. The
names in there are looked up once, when the server starts, so that no request waits for a directory service.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from typing import NamedTuple

from vsnapfs.core.errors import UsageError
from vsnapfs.core.rights import EVERY_RIGHT, RIGHTS, Right
from vsnapfs.repository.settings import GROUP, ControlSettings

ROOT = 0
SO_PEERGROUPS = 59
"""asm-generic/socket.h; Python does not name it."""
GROUPS_BYTES_MAX = 1024
"""All that Python takes from getsockopt. Who is in more than 256 groups counts as a member of the first one alone."""

_UCRED = struct.Struct("3i")
_GID_BYTES = 4


class Peer(NamedTuple):
    """Who connected, as the kernel knew them at that moment."""

    pid: int
    uid: int
    gids: frozenset[int]

    @property
    def is_server(self) -> bool:
        """The server's own user, or root."""
        return self.uid in (ROOT, os.geteuid())


def peer_of(sock: socket.socket) -> Peer:
    """Of a connected unix socket."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid, frozenset({gid, *_groups(sock)}))


def _groups(sock: socket.socket) -> tuple[int, ...]:
    try:
        found = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES_MAX)
    except OSError:
        return ()  # more than fit; or a kernel before 4.13
    return struct.unpack(f"{len(found) // _GID_BYTES}I", found)


class Rights:
    """What ``[control]`` gives to whom."""

    def __init__(self, settings: ControlSettings) -> None:
        """Raises: UsageError: a user or group that this machine does not know."""
        self._users: dict[int, set[Right]] = {}
        self._groups: dict[int, set[Right]] = {}
        for right in RIGHTS:
            for who in settings.those_with(right):
                table = self._groups if who.startswith(GROUP) else self._users
                table.setdefault(_id_of(right, who), set()).add(right)

    def of(self, peer: Peer) -> frozenset[Right]:
        """Everything that a peer may do; nothing for who is not named."""
        if peer.is_server:
            return EVERY_RIGHT
        found = set(self._users.get(peer.uid, ()))
        for gid in peer.gids:
            found |= self._groups.get(gid, set())
        return frozenset(found)

    @property
    def only_group(self) -> int | None:
        """The group that all who are named are in, if that can be said of one."""
        return next(iter(self._groups)) if len(self._groups) == 1 and not self._users else None


def _id_of(right: Right, who: str) -> int:
    """The number of a user or ``@group``, which may be given as one."""
    name = who.removeprefix(GROUP)
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid if who.startswith(GROUP) else pwd.getpwnam(name).pw_uid
    except KeyError as error:
        what = "group" if who.startswith(GROUP) else "user"
        raise UsageError(
            f"[control] {right} names the {what} {name!r}, which this machine does not know",
            hint="name one that it knows, or give a number",
        ) from error
