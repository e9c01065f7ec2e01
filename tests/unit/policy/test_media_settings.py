"""``[media.NAME]``: what may stand there, and what is said of everything else."""

from __future__ import annotations

import pytest

from vsnapfs.core.errors import UsageError
from vsnapfs.policy.media import CommandSettings, DriveSettings, PoolSettings
from vsnapfs.repository.settings import parse

pytestmark = pytest.mark.unit

POOL = '[media.vault]\nkind = "pool"\npath = "/srv/tapes"\ncapacity = "10G"\n'
COMMAND = '[media.off]\nkind = "command"\ncommand = ["ssh", "host", "cat > {label}"]\n'
DRIVE = '[media.lto]\nkind = "drive"\ndevice = "/dev/nst0"\n'


def test_defaults() -> None:
    media = parse((POOL + DRIVE).encode(), "x").media
    pool, drive = media["vault"], media["lto"]
    assert isinstance(pool, PoolSettings)
    assert isinstance(drive, DriveSettings)
    assert (pool.path, pool.capacity_bytes, pool.block_bytes, pool.piece_bytes) == (
        "/srv/tapes",
        10 << 30,
        256 << 10,
        1 << 30,
    )
    assert (pool.append, pool.retention_ns, pool.rate_bytes, pool.tapes) == (True, 0, None, 0)
    assert (drive.device, drive.capacity_bytes, drive.changer, drive.ready_s) == ("/dev/nst0", None, "prompt", 600.0)


def test_every_key() -> None:
    text = POOL + (
        'labels = "W%03d"\nblock = "64K"\npiece = "512M"\nappend = false\nretention = "30d"\ncompression = "zstd"\n'
        'recipients = ["age1abc"]\nrate = "100M"\ntapes = 3\n'
    )
    pool = parse(text.encode(), "x").media["vault"]
    assert isinstance(pool, PoolSettings)
    assert (pool.labels % 7, pool.block_bytes, pool.piece_bytes, pool.append) == ("W007", 64 << 10, 512 << 20, False)
    assert (pool.retention_ns, pool.rate_bytes, pool.recipients) == (30 * 86400 * 10**9, 100 << 20, ("age1abc",))
    text = DRIVE + (
        'capacity = "2.5T"\nfixed = true\nready = "2min"\nchanger = "command"\nchanger_device = "/dev/sg3"\n'
        'changer_drive = 1\nload = ["put", "{label}"]\nunload = ["take"]\nstatus = ["look"]\n'
    )
    drive = parse(text.encode(), "x").media["lto"]
    assert isinstance(drive, DriveSettings)
    assert (drive.capacity_bytes, drive.fixed, drive.ready_s, drive.changer_drive) == (5 << 39, True, 120.0, 1)
    assert (drive.load, drive.unload, drive.status) == (("put", "{label}"), ("take",), ("look",))


def test_a_command() -> None:
    media = parse((COMMAND + COMMAND.replace("off", "other") + 'read = ["cat", "x"]\n').encode(), "x").media
    off, other = media["off"], media["other"]
    assert isinstance(off, CommandSettings)
    assert isinstance(other, CommandSettings)
    assert (off.command, off.read, other.read) == (("ssh", "host", "cat > {label}"), (), ("cat", "x"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[media.v]\nkind = "flop"\n', ["line 2", "media.v.kind", "'flop' is not known"]),
        ('[media.v]\npath = "/a"\n', ["media.v", "a `kind` must be given: pool, drive, command"]),
        ('[media.v]\nkind = "pool"\npath = "/a"\n', ["media.v", "capacity"]),
        (POOL + "tape = 1\n", ["line 5", "unknown key 'tape' in [media.vault]", "did you mean tapes?"]),
        (POOL + 'device = "/dev/nst0"\n', ["line 5", "unknown key 'device'"]),
        (POOL.replace("/srv", "srv"), ["line 3", "media.vault.path", "no", "absolute path"]),
        (POOL.replace("10G", "300K"), ["line 4", "media.vault.capacity", "two blocks of 256K"]),
        (POOL.replace("10G", "ten"), ["line 4", "media.vault.capacity", "'ten' is not a size"]),
        (POOL + 'block = "100"\n', ["line 5", "media.vault.block", "512 B to 16 MiB"]),
        (POOL + 'block = "1000"\n', ["line 5", "media.vault.block", "no multiple of 512"]),
        (POOL + 'block = "32M"\n', ["line 5", "media.vault.block", "32M is not in"]),
        (POOL + 'piece = "1K"\n', ["line 5", "media.vault.piece", "64 KiB to 1 TiB"]),
        (POOL + 'rate = "0"\n', ["line 5", "media.vault.rate", "nothing would ever be written"]),
        (POOL + 'retention = "soon"\n', ["line 5", "media.vault.retention", "'soon' is not a duration"]),
        (POOL + "tapes = -1\n", ["line 5", "media.vault.tapes", "below 0"]),
        (POOL + 'labels = "TAPE"\n', ["line 5", "media.vault.labels", "no one number"]),
        (POOL + 'labels = "T%d-%d"\n', ["line 5", "media.vault.labels", "no one number"]),
        (POOL + 'labels = "%s%05d"\n', ["line 5", "media.vault.labels"]),
        (POOL + 'labels = "a/%05d"\n', ["line 5", "media.vault.labels", "not a tape name"]),
        (POOL + 'labels = "T%0999d"\n', ["line 5", "media.vault.labels"]),
        (POOL + 'compression = "rar"\n', ["line 5", "media.vault.compression"]),
        (POOL + 'recipients = [""]\n', ["line 5", "media.vault.recipients", "no key"]),
        (DRIVE.replace("/dev", "dev"), ["line 3", "media.lto.device", "absolute path"]),
        (DRIVE + 'changer = "robot"\n', ["line 4", "media.lto.changer"]),
        (DRIVE + 'changer = "command"\n', ["media.lto.load", "has one that loads"]),
        (DRIVE + 'load = ["x"]\n', ["line 4", "media.lto.load", 'changer = "prompt"']),
        (DRIVE + 'changer = "mtx"\nload = [""]\n', ["line 5", "media.lto.load", "no program"]),
        (DRIVE + 'ready = "0s"\n', ["line 4", "media.lto.ready"]),
        (DRIVE + "changer_drive = -1\n", ["line 4", "media.lto.changer_drive"]),
        (DRIVE + 'capacity = "1K"\n', ["line 4", "media.lto.capacity"]),
        (COMMAND.replace('["ssh", "host", "cat > {label}"]', "[]"), ["line 3", "media.off.command", "no program"]),
        (COMMAND + 'read = [""]\n', ["line 4", "media.off.read", "the program has no name"]),
        (COMMAND + 'piece = "2G"\n', ["line 4", "media.off.piece", "one stream"]),
        (POOL.replace("vault", '"-a"'), ["media", "not a medium name"]),
        (POOL + POOL.replace("vault", "other"), ["media", "vault and other are both /srv/tapes"]),
        (POOL + POOL.replace("vault", "other").replace("/srv/", "/srv/./"), ["media", "vault and other are both"]),
    ],
)
def test_what_cannot_be(text: str, said: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text.encode(), "x")
    line = str(caught.value)
    assert [part for part in said if part not in line] == []
    assert "\n" not in line
