"""Bookmarks over several repositories: all or none, whatever ends at whichever step."""

from __future__ import annotations

import os
import shutil
import time
import uuid as uuids
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.devices import mounted
from tests.support.volumes import content_at, put
from tests.support.waiting import eventually
from vsnapfs.binding import RecordKind
from vsnapfs.catalog.bodies import BookmarkAdded
from vsnapfs.core.errors import (
    DegradedError,
    NameTakenError,
    NoSpaceError,
    NotFoundError,
    StoreError,
    TimedOutError,
    UsageError,
    VsnapfsError,
)
from vsnapfs.core.model import Bookmark, FederatedRepository, Federation
from vsnapfs.daemon import federated, settling
from vsnapfs.daemon.client import connect
from vsnapfs.daemon.federated import bookmark_all
from vsnapfs.daemon.requests import BookmarkAdd, BookmarkList, FederatedHold, GetEvents, GetStatus
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.repository import Repository

pytestmark = pytest.mark.unit

SIZE = 64 << 10
STEPS_OF_TWO = ["reserved", "held", "held", "let go", "let go", "prepared", "prepared", "decided", "finished"]
KILLED = 9


@pytest.fixture
def paths(memory_path: Path) -> list[Path]:
    """Two repositories with a volume each, that nobody serves."""
    paths = [memory_path / name for name in ("a", "b")]
    for number, path in enumerate(paths):
        Repository.create(path)
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db0", size_bytes=SIZE)
            put(repository, "db0", 0, bytes([number + 1]) * 512)
    return paths


def made_in(path: Path) -> dict[str, Bookmark]:
    """Bookmarks as the next command finds them."""
    settling.settle_unserved(path)
    answer = connect(path).call(BookmarkList())
    assert answer.undecided == []
    return {bookmark.name: bookmark for bookmark in answer.bookmarks}


def failed_in(path: Path) -> list[tuple[str, str]]:
    """Names and reasons."""
    told = connect(path).call(GetEvents(kinds=["bookmark_failed"])).events
    return [(event.subject, event.detail["reason"]) for event in told]


def undecided_in(path: Path) -> list[str]:
    return [undecided.name for undecided in connect(path).call(BookmarkList()).undecided]


def killed_at(number: int, paths: list[Path], quiesce: str | None = None) -> None:
    """In a process that ends as kill -9 ends it, right after step ``number``."""
    child = os.fork()
    if child == 0:
        left = [number]

        def step(_: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                os._exit(KILLED)

        try:
            bookmark_all(paths, "all", quiesce=quiesce, step=step)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


class TestMade:
    def test_each_names_all(self, paths: list[Path]) -> None:
        steps: list[str] = []
        bookmark = bookmark_all(paths, "all", consistency="filesystem", application="x", note="y", step=steps.append)
        assert steps == STEPS_OF_TWO
        found = [made_in(path)["all"] for path in paths]
        assert found[0] == bookmark
        assert bookmark.federation is not None
        assert [member.path for member in bookmark.federation.repositories] == [str(path) for path in paths]
        for path, mine, member in zip(paths, found, bookmark.federation.repositories, strict=True):
            assert mine.federation == bookmark.federation
            assert (mine.consistency, mine.application, mine.note) == ("filesystem", "x", "y")
            with Repository.open(path, owner=False) as repository:
                assert (member.uuid, member.seqno) == (repository.uuid, mine.seqno)
                manifest = repository.manifest(repository.resolve("all"))
                assert manifest["bookmark"]["federation"]["id"] == bookmark.federation.id

    def test_it_is_of_what_was_written_before(self, paths: list[Path]) -> None:
        bookmark_all(paths, "all")
        for number, path in enumerate(paths):
            with Repository.open(path, owner=True) as repository:
                put(repository, "db0", 0, b"x" * 512)
                assert content_at(repository, "db0", "all")[:512] == bytes([number + 1]) * 512

    def test_the_catalog_made_again_knows_it(self, paths: list[Path]) -> None:
        bookmark_all(paths, "all")
        before = made_in(paths[1])
        (paths[1] / "catalog.db").unlink()
        assert made_in(paths[1]) == before

    def test_three(self, paths: list[Path], memory_path: Path) -> None:
        path = memory_path / "c"
        Repository.create(path)
        with Repository.open(path, owner=True) as repository:
            repository.volume_add("db0", size_bytes=SIZE)
        bookmark_all([path, *paths], "all")
        assert len({msgspec.json.encode(made_in(path)["all"].federation) for path in [path, *paths]}) == 1


class TestRefused:
    def none(self, paths: list[Path], raises: type[VsnapfsError], match: str, given: list[Path] | None = None) -> None:
        """It is refused, and leaves nothing: the name is free."""
        before = [set(made_in(path)) for path in paths]
        with pytest.raises(raises, match=match):
            bookmark_all(given or paths, "all")
        assert [set(made_in(path)) for path in paths] == before

    def test_one_alone(self, paths: list[Path]) -> None:
        self.none(paths, UsageError, "two at least", paths[:1])

    def test_one_twice(self, paths: list[Path]) -> None:
        self.none(paths, UsageError, "given twice", [*paths, paths[0]])
        link = paths[0].with_name("link")
        link.symlink_to(paths[0])
        self.none(paths, UsageError, "given twice", [paths[0], link])

    @pytest.mark.requires_root
    def test_one_twice_by_a_bind_mount(self, paths: list[Path]) -> None:
        with mounted(paths[0], paths[0].with_name("bound"), options="bind") as bound:
            self.none(paths, UsageError, "given twice", [paths[0], bound])

    def test_one_and_a_copy_of_it(self, paths: list[Path]) -> None:
        shutil.copytree(paths[0], paths[0].with_name("copy"))
        self.none(paths, UsageError, "or a copy of it", [*paths, paths[0].with_name("copy")])

    @pytest.mark.parametrize("number", [0, 1])
    def test_a_name_that_one_has(self, paths: list[Path], number: int) -> None:
        connect(paths[number]).call(BookmarkAdd(name="all"))
        self.none(paths, NameTakenError, f"{paths[number]}: there is a bookmark 'all' already")

    def test_a_name_that_is_none(self, paths: list[Path]) -> None:
        with pytest.raises(UsageError, match="name"):
            bookmark_all(paths, "latest")

    def test_one_that_holds_nothing(self, paths: list[Path]) -> None:
        empty = paths[0].with_name("empty")
        Repository.create(empty)
        self.none(paths, UsageError, f"{empty} holds nothing yet", [*paths, empty])

    def test_one_that_is_not_there(self, paths: list[Path]) -> None:
        self.none(paths, NotFoundError, "missing", [*paths, paths[0].with_name("missing")])

    def test_writes_that_did_not_stand_still(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        hold = FederatedHold
        monkeypatch.setattr(federated, "FederatedHold", lambda id: hold(id=id, milliseconds=1))  # noqa: A006

        def step(what: str) -> None:
            if what == "held":
                time.sleep(0.01)

        with pytest.raises(TimedOutError, match="ended before"):
            bookmark_all(paths, "all", step=step)
        assert [made_in(path) for path in paths] == [{}, {}]

    def test_an_error_in_the_middle(self, paths: list[Path]) -> None:
        """Of whatever kind: also the person's ^C."""
        for number, name in enumerate(STEPS_OF_TWO[: STEPS_OF_TWO.index("decided")]):
            with pytest.raises(KeyboardInterrupt):
                bookmark_all(paths, "all", step=failing_at(number))
            assert [made_in(path) for path in paths] == [{}, {}], name
        bookmark_all(paths, "all")


class TestStill:
    """With members of a profile of the first repository; each writes down what is done to it."""

    @pytest.fixture
    def log(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        return paths[0].with_name("log")

    def settle_for(self, path: Path, log: Path, freeze: str = "true", fallback: str = "none") -> None:
        said = [
            f'["/bin/sh", "-c", "echo {word} >> {log}; {then}"]' for word, then in (("still", freeze), ("on", "true"))
        ]
        with (path / "vsnapfs.toml").open("a") as file:
            file.write(f'[quiesce.app]\nfallback = "{fallback}"\n[[quiesce.app.members]]\nkind = "command"\n')
            file.write(f'name = "m"\nfreeze = {said[0]}\nthaw = {said[1]}\n')

    def test_the_cut_is_made_while_they_are(self, paths: list[Path], log: Path) -> None:
        self.settle_for(paths[0], log)
        steps: list[tuple[str, str]] = []

        def step(what: str) -> None:
            steps.append((what, log.read_text() if log.exists() else ""))

        bookmark = bookmark_all(paths, "all", quiesce="app", step=step)
        assert [text for _, text in steps] == ["", *["still\n"] * 4, *["still\non\n"] * 4]
        assert (bookmark.consistency, bookmark.profile, len(bookmark.members)) == ("application", "app", 1)
        other = made_in(paths[1])["all"]
        assert (other.consistency, other.profile, other.members) == ("application", "app", bookmark.members)

    def test_one_that_cannot_be_still(self, paths: list[Path], log: Path) -> None:
        self.settle_for(paths[0], log, freeze="false")
        with pytest.raises(VsnapfsError, match="m"):
            bookmark_all(paths, "all", quiesce="app")
        assert [made_in(path) for path in paths] == [{}, {}]
        for path in paths:
            [(name, reason)] = failed_in(path)
            assert name == "all"
            assert "command member m: the freeze command /bin/sh failed" in reason
        bookmark_all(paths, "all")  # its name is free, and nothing is held

    @pytest.mark.parametrize("freeze", ["false", "kill -9 $PPID"], ids=["fails", "freezer is killed"])
    def test_where_that_is_allowed_it_is_said(self, paths: list[Path], log: Path, freeze: str) -> None:
        self.settle_for(paths[0], log, freeze=freeze, fallback="crash")
        bookmark = bookmark_all(paths, "all", quiesce="app")
        assert (bookmark.consistency, bookmark.is_whole) == ("crash", False)
        assert [(member.name, member.kind, member.outcome) for member in bookmark.members] == [
            ("m", "command", "failed")
        ]
        assert bookmark.members[0].error
        assert made_in(paths[1])["all"].members == bookmark.members

    def test_still_when_the_command_is_killed(self, paths: list[Path], log: Path) -> None:
        self.settle_for(paths[0], log)
        killed_at(STEPS_OF_TWO.index("held"), paths, quiesce="app")
        eventually(lambda: log.read_text() == "still\non\n", "its members to be let go", deadline_s=60)
        assert [made_in(path) for path in paths] == [{}, {}]

    def test_a_profile_that_only_another_has(self, paths: list[Path], log: Path) -> None:
        self.settle_for(paths[1], log)
        with pytest.raises(NotFoundError, match="no profile 'app'"):
            bookmark_all(paths, "all", quiesce="app")

    def test_what_the_profile_says_nobody_else_does(self, paths: list[Path], log: Path) -> None:
        self.settle_for(paths[0], log)
        with pytest.raises(UsageError, match="leave out --consistency"):
            bookmark_all(paths, "all", quiesce="app", consistency="filesystem")


def failing_at(number: int) -> Callable[[str], None]:
    left = [number]

    def step(_: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return step


class TestKilled:
    @pytest.mark.parametrize("number", range(len(STEPS_OF_TWO)))
    def test_the_command_at_any_step(self, paths: list[Path], number: int) -> None:
        killed_at(number, paths)
        expected = {"all"} if number >= STEPS_OF_TWO.index("decided") else set()
        assert [set(made_in(path)) for path in paths] == [expected, expected]
        prepared = number == STEPS_OF_TWO.index("decided") - 1
        assert failed_in(paths[1]) == (
            [("all", f"the first of its repositories, {paths[0]}, has not made it")] if prepared else []
        )
        if expected:
            assert made_in(paths[0])["all"].federation == made_in(paths[1])["all"].federation
        else:
            bookmark_all(paths, "all")  # the name is free again

    def test_a_bookmark_that_is_not_decided_is_none(self, paths: list[Path]) -> None:
        killed_at(STEPS_OF_TWO.index("decided"), paths)
        answer = connect(paths[1]).call(BookmarkList())
        assert answer.bookmarks == []
        assert [(found.name, found.first_path) for found in answer.undecided] == [("all", str(paths[0]))]

    def test_a_name_that_is_not_decided_is_taken(self, paths: list[Path]) -> None:
        killed_at(STEPS_OF_TWO.index("decided"), paths)
        with pytest.raises(NameTakenError, match="not decided yet"):
            connect(paths[1]).call(BookmarkAdd(name="all"))

    def test_the_first_has_removed_it_since(self, paths: list[Path]) -> None:
        """It was made in all; that one of them was removed changes nothing for the others."""
        killed_at(STEPS_OF_TWO.index("decided"), paths)
        with Repository.open(paths[0], owner=True) as repository:
            repository.bookmark_remove("all")
        assert set(made_in(paths[1])) == {"all"}

    def test_killed_between_the_record_and_the_file(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        killed_at(STEPS_OF_TWO.index("decided"), paths)
        [file] = (paths[1] / "federated").iterdir()
        kept = file.read_bytes()
        made = made_in(paths[1])
        file.write_bytes(kept)
        assert made_in(paths[1]) == made
        with Repository.open(paths[1], owner=True) as repository:
            repository.bookmark_remove("all")
        file.write_bytes(kept)
        assert made_in(paths[1]) == {}, "what was removed since is not made again"


class TestTheFirstCannotBeAsked:
    def test_it_is_said_until_it_can(self, paths: list[Path]) -> None:
        killed_at(STEPS_OF_TWO.index("decided"), paths)
        away = paths[0].rename(paths[0].with_name("away"))
        with Repository.open(paths[1], owner=True) as repository:
            for _ in range(3):
                settling.settle(repository)
            [undecided] = repository.federated.undecided()
            assert f"{paths[0]} does not exist" in undecided.why
            [told] = repository.events(kinds=["bookmark_undecided"])
            assert (told.subject, told.detail) == ("all", {"first": str(paths[0]), "reason": undecided.why})
            [warning] = repository.status().warnings
            assert "all" in warning
            assert undecided.why in warning
        assert undecided_in(paths[1]) == ["all"]
        away.rename(paths[0])
        assert set(made_in(paths[1])) == {"all"}

    def test_another_repository_is_at_its_place(self, paths: list[Path]) -> None:
        killed_at(STEPS_OF_TWO.index("decided"), paths)
        paths[0].rename(paths[0].with_name("away"))
        Repository.create(paths[0])
        with Repository.open(paths[1], owner=True) as repository:
            settling.settle(repository)
            [undecided] = repository.federated.undecided()
            assert "another repository" in undecided.why

    def test_a_path_that_the_system_does_not_take(self, paths: list[Path]) -> None:
        """Of a file that is not ours: no server may end because of it."""
        killed_at(STEPS_OF_TWO.index("decided"), paths)
        [file] = (paths[1] / "federated").iterdir()
        file.write_bytes(file.read_bytes().replace(str(paths[0]).encode(), b"/" + b"x" * 300))
        with Repository.open(paths[1], owner=True) as repository:
            settling.settle(repository)
            [undecided] = repository.federated.undecided()
            assert "File name too long" in undecided.why

    def test_a_command_is_at_work_in_it(self, paths: list[Path]) -> None:
        killed_at(STEPS_OF_TWO.index("prepared") + 1, paths)
        with Repository.open(paths[0], owner=True), Repository.open(paths[1], owner=True) as repository:
            settling.settle(repository)
            [undecided] = repository.federated.undecided()
            assert "is in use by process" in undecided.why
        assert made_in(paths[1]) == {}

    def test_its_journal_failed(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """What it wrote last may be found in the journal when that is opened again."""
        with Repository.open(paths[0], owner=True) as repository:
            facts = repository.journal.facts()
            with monkeypatch.context() as failed:
                failed.setattr(repository.journal, "facts", lambda: facts._replace(failed=-5))
                with pytest.raises(DegradedError, match="not known"):
                    repository.federated.verdict(str(uuids.uuid4()))
            assert repository.federated.verdict(str(uuids.uuid4())).state == "none"

    def test_a_file_of_nobody_is_told_and_left(self, paths: list[Path]) -> None:
        (paths[0] / "federated").mkdir()
        for name, content in (("x.json", b"{"), (f"{uuids.uuid4()}.json", b"{}"), ("y", b"")):
            (paths[0] / "federated" / name).write_bytes(content)
        problems = connect(paths[0]).call(GetStatus()).problems
        assert len([problem for problem in problems if "cannot be understood" in problem]) == 2
        bookmark_all(paths, "all")


class TestTheDecisionFails:
    def test_before_it_is_there(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Parts, "record", full)
        with pytest.raises(NoSpaceError):
            bookmark_all(paths, "all")
        monkeypatch.undo()
        assert [made_in(path) for path in paths] == [{}, {}]

    def test_after_it_is_there(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        record = Parts.record

        def lost(parts: Parts, kind: RecordKind, *args: object, **more: object) -> int:
            record(parts, kind, *args, **more)  # type: ignore[arg-type]
            monkeypatch.setattr(Parts, "record", record)
            raise StoreError("the answer is lost")

        monkeypatch.setattr(Parts, "record", lost)
        bookmark_all(paths, "all")
        assert [set(made_in(path)) for path in paths] == [{"all"}, {"all"}]

    def test_nobody_can_tell(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Parts, "record", full)
        monkeypatch.setattr(federated, "VERDICT_PAUSE_S", 0)
        monkeypatch.setattr(federated, "GetFederatedVerdict", _unasked)
        with pytest.raises(DegradedError, match="not known yet"):
            bookmark_all(paths, "all")
        monkeypatch.undo()
        assert undecided_in(paths[1]) == ["all"]
        assert [made_in(path) for path in paths] == [{}, {}]

    def test_another_cannot_make_it(self, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """It is decided: the others follow."""
        record = Parts.record

        def only_the_first(parts: Parts, kind: RecordKind, *args: object, **more: object) -> int:
            if parts.layout.path != paths[0]:
                raise NoSpaceError("the disk is full")
            return record(parts, kind, *args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Parts, "record", only_the_first)
        with pytest.raises(DegradedError, match=f"{paths[1]} does not carry it yet"):
            bookmark_all(paths, "all")
        assert (set(made_in(paths[0])), undecided_in(paths[1])) == ({"all"}, ["all"])
        monkeypatch.undo()
        assert set(made_in(paths[1])) == {"all"}


def full(*_: object, **__: object) -> int:
    raise NoSpaceError("the disk is full")


def _unasked(**_: object) -> None:
    raise TimedOutError("no answer")


class TestAPart:
    """What one repository promises the others."""

    @pytest.fixture
    def repository(self, paths: list[Path]) -> Iterator[Repository]:
        with Repository.open(paths[0], owner=True) as repository:
            yield repository

    @pytest.fixture
    def federation(self, repository: Repository) -> str:
        federation = str(uuids.uuid4())
        repository.federated.reserve(federation, "all", 30)
        return federation

    def decide(self, repository: Repository, federation: str, seqno: int) -> Bookmark:
        mine = FederatedRepository(uuid=repository.uuid, path="/a", seqno=seqno)
        whole = Federation(id=federation, repositories=(mine,))
        return repository.federated.decide(BookmarkAdded("all", federation=whole))

    def test_what_it_has_denied_it_never_decides(self, repository: Repository, federation: str) -> None:
        position = repository.federated.hold(federation, 0)
        repository.federated.let_go(federation)
        assert repository.federated.verdict(federation).state == "open"
        repository.federated.drop(federation)
        assert repository.federated.verdict(federation).state == "none"
        with pytest.raises(NotFoundError, match="being made"):
            self.decide(repository, federation, position.seqno)

    def test_a_reservation_ends(self, repository: Repository) -> None:
        federation = str(uuids.uuid4())
        repository.federated.reserve(federation, "all", 30.0)
        with pytest.raises(NameTakenError):
            repository.bookmark_add("all")
        reserved = repository.federated._parts.reservations.get(federation)
        assert reserved is not None
        reserved.until_s = 0.0  # its time is over
        assert repository.federated.verdict(federation).state == "none"
        repository.bookmark_add("all")

    def test_what_may_get_a_name_is_known(self, repository: Repository, federation: str) -> None:
        reservations = repository.federated._parts.reservations
        assert reservations.positions() == []
        position = repository.federated.hold(federation, 0)
        assert reservations.positions() == [position.seqno]
        repository.federated.let_go(federation)
        other = FederatedRepository(uuid=str(uuids.uuid4()), path="/elsewhere", seqno=1)
        repository.federated.prepare(federation, other)
        put(repository, "db0", 0, b"z" * 512)
        assert reservations.positions() == [position.seqno]
        repository.federated.drop(federation)
        assert reservations.positions() == []

    def test_no_step_is_left_out(self, repository: Repository, federation: str) -> None:
        with pytest.raises(UsageError, match="nothing is held"):
            repository.federated.let_go(federation)
        with pytest.raises(UsageError, match="did not stand still"):
            self.decide(repository, federation, 1)
        position = repository.federated.hold(federation, 0)
        with pytest.raises(UsageError, match="did not stand still"):
            self.decide(repository, federation, position.seqno)
        repository.federated.let_go(federation)
        with pytest.raises(UsageError, match="names @1 of"):
            self.decide(repository, federation, 1)

    def test_a_record_that_was_lost_and_replaced_is_not_named(self, repository: Repository, federation: str) -> None:
        position = repository.federated.hold(federation, 0)
        repository.federated.let_go(federation)
        parts = repository.federated._parts
        reservation = parts.reservations.get(federation)
        assert reservation is not None
        reservation.position = position._replace(time_ns=position.time_ns + 1)
        with pytest.raises(StoreError, match="lost what was to be named"):
            self.decide(repository, federation, position.seqno)

    def test_two_at_once_do_not_take_one_name(self, repository: Repository, federation: str) -> None:
        with pytest.raises(NameTakenError):
            repository.federated.reserve(str(uuids.uuid4()), "all", 30)

    def test_the_end_lets_go(self, repository: Repository, federation: str) -> None:
        repository.federated.hold(federation, 10_000)
        repository.federated.end_holds()
        put(repository, "db0", 0, b"y" * 512)
        with pytest.raises(TimedOutError):
            repository.federated.let_go(federation)

    @pytest.mark.parametrize("bad", ["", "x", "../../etc/passwd", "7D2F9518-a387-4c5e-8f61-8a39a716dbe8"])
    def test_an_id_that_is_none(self, repository: Repository, bad: str) -> None:
        with pytest.raises(UsageError, match="no id"):
            repository.federated.reserve(bad, "all", 30)
