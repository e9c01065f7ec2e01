"""A keeper that dies before its worker is ready: the worker ends in order, as when it dies later."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from vsnapfs.binding import Keep
from vsnapfs.daemon.holding import Given, KeeperHolding

pytestmark = pytest.mark.unit


def test_a_keeper_that_has_died_is_nobody_to_tell() -> None:
    keepers, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    given = Given(keep=Keep.make(), line=workers.detach(), lock=-1, device=-1, background=False)
    with closing(KeeperHolding(given)) as holding:
        keepers.close()
        holding.ready()
