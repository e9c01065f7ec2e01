"""Changers: a program that answers as mtx does, commands of one's own, a person, nobody."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vsnapfs.core.errors import NotFoundError, StoreError, TimedOutError
from vsnapfs.media.changer import Nobody, Person, Programs, Slot, changer_of, parse_status
from vsnapfs.policy.media import DriveSettings

pytestmark = pytest.mark.unit

FAKE_MTX = Path(__file__).parents[2] / "support" / "fake_mtx.py"
REAL_STATUS = """\
  Storage Changer /dev/sg3:2 Drives, 5 Slots ( 1 Import/Export )
Data Transfer Element 0:Full (Storage Element 2 Loaded):VolumeTag = A00002L8
Data Transfer Element 1:Empty
      Storage Element 1:Full :VolumeTag=A00001L8
      Storage Element 2:Empty
      Storage Element 3:Full
      Storage Element 4:Full :VolumeTag=CLNU01L1
      Storage Element 5 IMPORT/EXPORT:Full :VolumeTag=A00005L8                        \n"""


def settings(**others: Any) -> DriveSettings:
    return DriveSettings(**{"device": "/dev/nst0", "changer": "mtx", "changer_device": "/dev/sg3"} | others)


class Robot:
    """A fake mtx and its state."""

    def __init__(self, place: Path, slots: dict[str, str | None]) -> None:
        self.place = place
        place.write_text(json.dumps({"slots": slots, "drive": None, "log": []}))

    def programs(self, **others: Any) -> Programs:
        command = (sys.executable, str(FAKE_MTX), str(self.place), "-f", "{device}")
        chosen = {
            "status": (*command, "status"),
            "load": (*command, "load", "{slot}", "{drive}"),
            "unload": (*command, "unload", "{slot}", "{drive}"),
        }
        return Programs("lto", settings(**chosen | others))

    @property
    def state(self) -> Any:
        return json.loads(self.place.read_text())


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    return Robot(tmp_path / "state", {"1": "A1", "2": "A2", "3": None, "4": "A4"})


def test_what_mtx_says() -> None:
    assert parse_status(REAL_STATUS) == [
        Slot("A00002L8", 2, 0),
        Slot("A00001L8", 1, None),
        Slot(None, 3, None),
        Slot("A00005L8", 5, None),
    ]


@pytest.mark.parametrize("text", ["", "mtx: Request Sense: Long Report=yes\n", "\x00\xff" * 100])
def test_what_is_no_status_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="no elements"):
        parse_status(text)


def test_a_tape_is_brought_by_its_barcode(robot: Robot) -> None:
    changer = robot.programs()
    changer.bring(["A9", "A2", "A1"])
    assert robot.state["drive"] == {"home": "2", "label": "A2"}
    assert robot.state["log"][-1] == "-f /dev/sg3 load 2 0"


def test_what_is_in_the_drive_is_put_back_first(robot: Robot) -> None:
    changer = robot.programs()
    changer.bring(["A2"])
    changer.bring(["A1"])
    assert robot.state["drive"] == {"home": "1", "label": "A1"}
    assert robot.state["slots"] == {"1": None, "2": "A2", "3": None, "4": "A4"}


def test_one_that_the_drive_has_ejected_is_brought_again(robot: Robot) -> None:
    changer = robot.programs()
    changer.bring(["A2"])
    changer.bring(["A2"])
    assert [line.split()[2] for line in robot.state["log"] if "status" not in line] == ["load", "unload", "load"]


def test_one_that_is_not_there_is_named(robot: Robot) -> None:
    with pytest.raises(NotFoundError, match="the changer of lto has no tape A3"):
        robot.programs().bring(["A3"])
    assert [line.split()[2] for line in robot.state["log"]] == ["status"]


def test_one_in_another_drive_is_left_there(robot: Robot) -> None:
    with pytest.raises(StoreError, match="tape X of lto is in drive 1, and cannot be put into drive 0"):
        robot.programs().bring_slot(Slot("X", 7, 1))


def test_a_program_that_fails_says_why(robot: Robot) -> None:
    changer = robot.programs(load=("sh", "-c", "echo the arm is stuck >&2; exit 3"))
    with pytest.raises(StoreError, match="failed with status 3: the arm is stuck"):
        changer.bring(["A1"])
    with pytest.raises(StoreError, match="cannot run /no/mtx, the changer of lto"):
        robot.programs(status=("/no/mtx",)).slots()


def test_a_program_that_does_not_end_is_killed(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsnapfs.media.changer.TIMEOUT_S", 0.05)
    with pytest.raises(TimedOutError, match="`sleep 60` did not end"):
        robot.programs(status=("sleep", "60")).slots()


def test_commands_of_ones_own_get_the_label(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = 'printf "%s\\n" "$*" >> ' + str(log)
    chosen = settings(
        changer="command",
        load=("sh", "-c", script, "load", "{label}", "{drive}", "{slot}", "x{label}y{device}"),
        unload=("sh", "-c", script, "unload", "{label}"),
    )
    changer = changer_of("lto", chosen, None)
    assert changer.slots() == []
    changer.bring(["$(date)", "B"])
    assert log.read_text().splitlines() == ["", "$(date) 0  x$(date)y/dev/sg3"]
    with pytest.raises(NotFoundError, match="does not tell which tapes are blank"):
        changer.bring([], blank=True)


def test_a_person_is_asked_for_what_would_do() -> None:
    asked: list[str] = []
    changer = changer_of("lto", settings(changer="prompt"), asked.append)
    assert isinstance(changer, Person)
    changer.bring(["A1", "A2"], blank=True)
    changer.bring([], blank=True)
    assert asked == [
        "put tape A1 or tape A2 or a blank tape into /dev/nst0 of lto",
        "put a blank tape into /dev/nst0 of lto",
    ]


@pytest.mark.parametrize("changer", ["prompt", "none"])
def test_without_anybody_the_tape_that_is_wanted_is_named(changer: str) -> None:
    nobody = changer_of("lto", settings(changer=changer), None)
    assert isinstance(nobody, Nobody)
    with pytest.raises(NotFoundError, match="lto needs tape A1 in /dev/nst0; put it in, and run this again"):
        nobody.bring(["A1"])
