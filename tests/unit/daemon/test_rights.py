"""Who may ask for what: peers as the kernel knows them, rights as the settings give them, and each verb behind its own."""

from __future__ import annotations

import json
import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.support.processes import environment
from tests.unit.daemon.socket_talk import ask, door, head, talk
from vsnapfs.core.errors import UsageError
from vsnapfs.core.rights import EVERY_RIGHT, RIGHTS, Right
from vsnapfs.daemon import control, http
from vsnapfs.daemon.api import VERBS, Report, Verb
from vsnapfs.daemon.requests import Committed, Request
from vsnapfs.daemon.rights import Peer, Rights, peer_of
from vsnapfs.repository.settings import ControlSettings

pytestmark = pytest.mark.unit

ALICE, BACKUP = 12345, 54321
STRANGER = Peer(99, ALICE, frozenset({ALICE}))
SOCKET = "/run/vsnapfs/x.sock"

OF_VERBS: dict[str, Right] = {
    "volume_list": "read",
    "bookmark_list": "read",
    "bookmark_show": "read",
    "diff": "read",
    "status": "read",
    "events": "read",
    "check": "read",
    "resolve": "read",
    "anchor": "read",
    "bookmark_space": "read",
    "prune_preview": "read",
    "plan": "read",
    "plan_write": "admin",
    "prune": "delete",
    "bookmark_add": "bookmark",
    "bookmark_hold": "bookmark",
    "commit": "bookmark",
    "branch_list": "read",
    "branch_show": "read",
    "branch_check": "read",
    "branch_add": "admin",
    "branch_remove": "admin",
    "branch_report": "admin",
    "federated_reserve": "bookmark",
    "federated_hold": "bookmark",
    "federated_let_go": "bookmark",
    "federated_decide": "bookmark",
    "federated_finish": "bookmark",
    "federated_drop": "bookmark",
    "federated_verdict": "bookmark",
    "federated_prepare": "admin",
    "bookmark_remove": "delete",
    "bookmark_release": "delete",
    "volume_add": "admin",
    "volume_remove": "admin",
    "volume_resize": "admin",
    "volume_resync": "admin",
    "import": "admin",
    "restore_live": "admin",
    "branch_promote": "admin",
    "repair": "admin",
    "verdict": "admin",
}


def given(**who: list[str]) -> Rights:
    return Rights(ControlSettings(socket=SOCKET, **{right: tuple(names) for right, names in who.items()}))


def test_every_verb_has_a_right_of_its_own() -> None:
    """Not one that it inherits: who adds a verb has to say it."""
    for verb in VERBS.values():
        assert "right" in vars(verb.request), f"{verb.request.__name__} declares no right"
        assert verb.request.right in RIGHTS
    assert not hasattr(Request, "right")


def test_which_right_that_is() -> None:
    assert {verb.name: verb.request.right for verb in VERBS.values()} == OF_VERBS


def test_who_names_a_file_that_the_server_opens_needs_to_be_admin() -> None:
    """Members that name no file; any other, of a verb that is not for admins, has to be thought about here."""
    harmless = {"name", "at", "point", "consistency", "application", "note", "since", "until", "volume", "text"}
    harmless |= {"id", "uuid", "seqno", "seconds", "milliseconds", "decided", "federation", "why"}
    harmless |= {"quiesce", "profile", "members"}  # programs are named by the settings alone
    harmless |= {"removed", "space", "read_data", "percent", "seed", "anchor", "anchor_key", "key"}
    harmless |= {"noticed_in_s", "recover_in_s"}
    harmless |= {"after", "kinds", "limit", "newest", "wait_s", "schedule"}
    others = [verb for verb in VERBS.values() if verb.request.right != "admin"]
    assert {field for verb in others for field in verb.request.__struct_fields__} <= harmless


def test_nothing_that_changes_is_done_for_who_may_only_read() -> None:
    for verb in VERBS.values():
        assert verb.place != "owner" or verb.request.right != "read", verb.name


class TestWhoHasThem:
    def test_the_servers_user_and_root_have_all(self) -> None:
        for uid in (0, os.geteuid()):
            assert given().of(Peer(1, uid, frozenset())) == EVERY_RIGHT

    def test_who_is_not_named_has_none(self) -> None:
        assert given(read=["1"], admin=["@2"]).of(STRANGER) == frozenset()

    def test_a_right_brings_no_other(self) -> None:
        for right in RIGHTS:
            assert given(**{right: [str(ALICE)]}).of(STRANGER) == {right}

    def test_users_and_groups_by_number(self) -> None:
        rights = given(read=[f"@{BACKUP}"], bookmark=[str(ALICE)], delete=[f"@{ALICE}"])
        assert rights.of(Peer(1, 7, frozenset({8, BACKUP}))) == {"read"}
        assert rights.of(STRANGER) == {"bookmark", "delete"}
        assert rights.of(Peer(1, BACKUP, frozenset({9}))) == frozenset(), "a user is no group"

    def test_users_and_groups_by_name(self) -> None:
        nobody = pwd.getpwnam("nobody")
        rights = given(read=["nobody"], bookmark=["@daemon"])
        assert rights.of(Peer(1, nobody.pw_uid, frozenset())) == {"read"}
        assert rights.of(Peer(1, ALICE, frozenset({1}))) == {"bookmark"}

    @pytest.mark.parametrize("who", ["no-such-user", "@no-such-group", "@", "-1", "²"])
    def test_a_name_that_nobody_bears(self, who: str) -> None:
        with pytest.raises((UsageError, ValueError), match=r"does not know|neither"):
            given(read=[who])

    def test_one_group_for_all(self) -> None:
        assert given(read=["@7"], delete=["@7"]).only_group == 7
        assert given(read=["@7"], delete=["@8"]).only_group is None
        assert given(read=["@7"], delete=["1"]).only_group is None
        assert given().only_group is None


PEER = """
import os, socket, sys
os.setgroups([20, 4711])
os.setgid(1234)
os.setuid(1235)
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.recv(1)
"""


@pytest.mark.requires_root
def test_the_kernel_says_who_it_is_and_in_which_groups(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        (tmp_path / "s").chmod(0o666)
        reachable(tmp_path)
        with subprocess.Popen([sys.executable, "-c", PEER, str(tmp_path / "s")], env=environment()) as process:
            connected, _ = listening.accept()
            with connected:
                assert peer_of(connected) == Peer(process.pid, 1235, frozenset({1234, 20, 4711}))
        assert process.returncode == 0


def reachable(path: Path) -> None:
    """Let others get at a directory of the test's. What more may be done with those above it, as in /tmp, stays."""
    for directory in (path, *path.parents[:2]):
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | 0o755)


def committed(_verb: Verb, _request: Request[Any], _report: Report) -> Committed:
    return Committed(seqno=7)


Become = Callable[[Peer], None]


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Become:
    """Make whoever connects somebody else. The credentials are the kernel's."""
    return lambda peer: monkeypatch.setattr(control, "peer_of", lambda _: peer)


@pytest.mark.parametrize("right", RIGHTS)
async def test_each_verb_is_behind_its_right(tmp_path: Path, become: Become, right: Right) -> None:
    become(STRANGER)
    rights = given(**{right: [str(ALICE)]})
    with capture_logs() as logs:
        async with door(tmp_path, committed, rights) as path:
            for verb in VERBS.values():
                status, [line] = await ask(path, verb.name, b"[]")
                if verb.request.right == right:
                    assert status == 400, "it has got to the request itself"
                    continue
                assert status == 403
                error = line["error"]
                assert (error["kind"], error["exit_status"]) == ("PermissionDeniedError", 4)
                assert verb.name in error["message"]
                assert f"[control] {verb.request.right}" in error["fields"]["hint"]
    refused = [entry for entry in logs if entry.get("status") == 403]
    assert len(refused) == sum(verb.request.right != right for verb in VERBS.values())
    assert {(entry["peer_pid"], entry["peer_uid"]) for entry in refused} == {(99, ALICE)}


async def test_who_has_no_right_is_told_so_and_not_listened_to(tmp_path: Path, become: Become) -> None:
    become(STRANGER)
    with capture_logs() as logs:
        async with door(tmp_path, committed, given(read=["1"])) as path:
            for sent in (head("status", 2) + b"{}", b"", b"\0" * 100_000):
                answer = await talk(path, sent)
                assert answer.startswith(b"HTTP/1.1 403 ")
                error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
                assert (error["kind"], error["exit_status"]) == ("PermissionDeniedError", 4)
                assert str(ALICE) in error["message"]
    assert [(entry["event"], entry["peer_uid"]) for entry in logs] == [("connection refused", ALICE)] * 3


async def test_who_has_no_right_takes_no_places(
    tmp_path: Path, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connect and stay; there are as many places as are refused with a word at once, and one."""
    monkeypatch.setattr(control, "REFUSAL_S_MAX", 60.0)
    monkeypatch.setattr(control, "CONNECTIONS_MAX", control.REFUSALS_MAX + 1)
    async with door(tmp_path, committed, given(bookmark=[str(ALICE)])) as path:
        become(Peer(98, ALICE + 1, frozenset()))
        rude = [await trio.open_unix_socket(str(path)) for _ in range(3 * control.REFUSALS_MAX)]
        await trio.testing.wait_all_tasks_blocked()
        become(STRANGER)
        with trio.fail_after(5):
            assert (await ask(path, "commit", b"{}"))[0] == 200
        for stream in rude:
            await stream.aclose()


async def test_what_is_changed_is_logged_with_who_asked(tmp_path: Path, become: Become) -> None:
    become(STRANGER)
    with capture_logs() as logs:
        async with door(tmp_path, committed, given(bookmark=[str(ALICE)], read=[str(ALICE)])) as path:
            assert (await ask(path, "commit", b"{}"))[0] == 200
            assert (await ask(path, "bookmark_list", b"{}"))[0] == 200
    assert [(entry["event"], entry["verb"], entry["peer_uid"]) for entry in logs] == [("asked", "commit", ALICE)]


async def test_a_user_who_takes_all_connections_leaves_room_for_others(
    tmp_path: Path, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CONNECTIONS_OF_USER_MAX", 3)
    bob = Peer(98, ALICE + 1, frozenset())
    async with door(tmp_path, committed, given(bookmark=[str(ALICE), str(bob.uid)])) as path:
        become(STRANGER)
        idle = [await trio.open_unix_socket(str(path)) for _ in range(3)]
        with trio.fail_after(5):
            assert b"3 connections already" in await talk(path)
            become(bob)
            assert (await ask(path, "commit", b"{}"))[0] == 200
            for stream in idle:
                await stream.aclose()
            become(STRANGER)
            while (await ask(path, "commit", b"{}"))[0] != 200:
                await trio.lowlevel.checkpoint()


async def test_no_more_connections_are_taken_than_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands who connect take no descriptors of the server, which has a journal to open."""
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 4)
    async with door(tmp_path, committed, given()) as path:
        before = len(os.listdir("/proc/self/fd"))
        idle = [await trio.open_unix_socket(str(path)) for _ in range(30)]
        await trio.testing.wait_all_tasks_blocked()
        assert len(os.listdir("/proc/self/fd")) <= before + len(idle) + 5
        for stream in idle:
            await stream.aclose()
        with trio.fail_after(5):
            assert (await ask(path, "commit", b"{}"))[0] == 200


async def test_work_of_others_does_not_keep_the_servers_own_user_waiting(
    tmp_path: Path, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "WORKERS_OF_OTHERS_MAX", 1)
    started, finish = trio.Event(), trio.Event()

    def slow(_verb: Verb, _request: Request[Any], _report: Report) -> Committed:
        if not started.is_set():
            trio.from_thread.run_sync(started.set)
            trio.from_thread.run(finish.wait)
        return Committed(seqno=7)

    async with door(tmp_path, slow, given(bookmark=[str(ALICE)])) as path, trio.open_nursery() as nursery:
        become(STRANGER)
        nursery.start_soon(ask, path, "commit", b"{}")
        await started.wait()
        nursery.start_soon(ask, path, "commit", b"{}")
        become(Peer(1, 0, frozenset()))
        with trio.fail_after(5):
            assert (await ask(path, "commit", b"{}"))[0] == 200
        finish.set()
