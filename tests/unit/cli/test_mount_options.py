"""Options of mount(8): what is taken, ignored, refused."""

from __future__ import annotations

import pytest

from vsnapfs.cli.mount_options import parse
from vsnapfs.core.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("words", "allow_other"),
    [
        ([], None),
        (["ro"], None),
        (["rw,dev,suid"], None),
        (["rw,nosuid,nodev,noexec,exec,auto,noauto,user,_netdev,nofail"], None),
        (["x-systemd.automount,X-mount.mkdir,comment=a b"], None),
        (["ro,allow_other"], True),
        (["ro", "allow_other"], True),
        (["ro,,"], None),
    ],
)
def test_options_of_fstab(words: list[str], allow_other: bool | None) -> None:
    assert parse(words) == allow_other


@pytest.mark.parametrize(
    ("option", "advice"),
    [("alow_other", "did you mean allow_other?"), ("noaut", "did you mean noauto"), ("zzz", "option 'zzz'")],
)
def test_an_unknown_option_gets_near_names(option: str, advice: str) -> None:
    with pytest.raises(UsageError, match="unknown mount option") as caught:
        parse([f"ro,{option}"])
    assert advice in str(caught.value)
