"""Options of mount(8): what is taken, ignored, refused."""

from __future__ import annotations

from typing import get_args

import pytest

from vsnapfs.cli.data_option import MODES
from vsnapfs.cli.mount_options import Given, parse
from vsnapfs.core.errors import UsageError
from vsnapfs.core.model import DataMode

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], Given()),
        (["ro"], Given()),
        (["rw,dev,suid"], Given()),
        (["rw,nosuid,nodev,noexec,exec,auto,noauto,user,_netdev,nofail"], Given()),
        (["x-systemd.automount,X-mount.mkdir,comment=a b"], Given()),
        (["ro,allow_other"], Given(allow_other=True)),
        (["ro", "allow_other"], Given(allow_other=True)),
        (["ro,,"], Given()),
        (["ro,data=kernel"], Given(data="kernel")),
        (["ro,sound_part"], Given(sound_part=True)),
        (["data=auto,allow_other", "data=verify"], Given(allow_other=True, data="verify")),
    ],
)
def test_options_of_fstab(words: list[str], given: Given) -> None:
    assert parse(words) == given


def test_the_modes_are_those_of_the_objects() -> None:
    assert get_args(DataMode) == MODES


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("data", "did you mean data="),
        ("dta=kernel", "did you mean data=kernel"),
        ("alow_other", "did you mean allow_other?"),
        ("sound-part", "did you mean sound_part"),
        ("noaut", "did you mean noauto"),
        ("zzz", "option 'zzz'"),
    ],
)
def test_an_unknown_option_gets_near_names(option: str, advice: str) -> None:
    with pytest.raises(UsageError, match="unknown mount option") as caught:
        parse([f"ro,{option}"])
    assert advice in str(caught.value)


@pytest.mark.parametrize("option", ["data=", "data=fast", "data=Kernel"])
def test_a_mode_that_is_none(option: str) -> None:
    with pytest.raises(UsageError, match="modes are verify, kernel, auto"):
        parse([option])
