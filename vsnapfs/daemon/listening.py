"""The names of control sockets: one in the repository, and one elsewhere for others, if the settings say so.

A name is made through a descriptor of its directory, so that a long path does not meet the 108 bytes of a socket
address, and it is removed at the end. What a server that was killed has left is replaced; nothing else is.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from vsnapfs.core.errors import BusyError, NameTakenError, NotFoundError, PermissionDeniedError, from_os_error
from vsnapfs.repository.layout import SOCKET

BACKLOG = 64
OWNER = 0o600
GROUP = 0o660
EVERYBODY = 0o666
WRITE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Name:
    """A listening socket, ``socket``, and its name; ``close`` ends both."""

    def __init__(self, directory_fd: int, name: str, what: str, mode: int) -> None:
        """Bind and listen. Borrows ``directory_fd``. what: for an error. Raises: StoreError and its kin."""
        self._directory_fd = directory_fd
        self._name = name
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = f"/proc/self/fd/{directory_fd}/{name}"
        try:
            os.fchmod(sock.fileno(), OWNER)  # bind gives the name this mode, there is no moment with a wider one
            sock.bind(path)
            self._made = self._found()
            os.chmod(path, mode)  # whatever the umask has left of it
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise from_os_error(error, f"make {what}") from error
        self.socket = sock

    def close(self) -> None:
        """Nobody accepts any more. The name is removed if it is still the one that was made."""
        self.socket.close()
        if self._found() == self._made:
            os.unlink(self._name, dir_fd=self._directory_fd)

    def _found(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._name, dir_fd=self._directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


def in_repository(directory_fd: int) -> Name:
    """The repository's own. Its lock is held by the caller, so that whatever stands there is of nobody any more."""
    try:
        os.unlink(SOCKET, dir_fd=directory_fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise from_os_error(error, "make the control socket") from error
    return Name(directory_fd, SOCKET, "the control socket", OWNER)


def open_directory(path: Path) -> int:
    """The directory of a socket for others, checked: who could write to it could put a socket of their own there, and
    hear what is meant for the server. The caller closes it.

    Raises: NotFoundError, PermissionDeniedError.
    """
    try:
        fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path.parent}, for the socket {path.name}, does not exist",
            hint="make it, or have systemd do so by RuntimeDirectory=",
        ) from error
    except OSError as error:
        raise from_os_error(error, f"open {path.parent}") from error
    found = os.fstat(fd)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & WRITE_BY_OTHERS:
        os.close(fd)
        raise PermissionDeniedError(
            f"others can write to {path.parent}, and could put another socket in the place of {path.name}",
            hint="give a directory that is root's or the server's alone",
        )
    return fd


def for_others(directory_fd: int, path: Path, gid: int | None) -> Name:
    """The one that the settings name, in a directory of ``open_directory``. gid: all who may connect are in this group.

    Raises: NameTakenError: something else stands there. BusyError: another server listens there.
    """
    _clear(directory_fd, path)
    made = Name(directory_fd, path.name, str(path), EVERYBODY if gid is None else GROUP)
    if gid is not None:
        try:
            os.chown(path.name, -1, gid, dir_fd=directory_fd, follow_symlinks=False)
        except PermissionError:  # who is not root gives to groups of their own alone; who connects is looked at anyway
            os.chmod(f"/proc/self/fd/{directory_fd}/{path.name}", EVERYBODY)
    return made


def _clear(directory_fd: int, path: Path) -> None:
    """Take away the name of a dead server."""
    try:
        found = os.stat(path.name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise NameTakenError(f"{path} exists and is no socket", hint="give another path, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(f"/proc/self/fd/{directory_fd}/{path.name}")
        except ConnectionRefusedError:
            os.unlink(path.name, dir_fd=directory_fd)
            return
        except OSError:
            pass  # its queue is full, or it is not for us: somebody is there
    raise BusyError(f"another server listens on {path}", hint="give each repository a socket of its own")
