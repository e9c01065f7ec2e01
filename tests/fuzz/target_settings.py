"""``vsnapfs.toml``, whatever it holds: settings, or one line that names the file."""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["vsnapfs", "tomllib"]):
    from vsnapfs.core.errors import UsageError
    from vsnapfs.repository import settings

from tests.fuzz.python_target import main, one_line

SOURCE = "vsnapfs.toml"


def run(content: bytes) -> None:
    try:
        found = settings.parse(content, SOURCE)
    except UsageError as error:
        one_line(error)
        names_the_file = str(error).startswith(SOURCE)
        assert names_the_file
    else:
        assert settings.SEGMENT_BYTES_MIN <= found.journal.segment_bytes <= settings.SEGMENT_BYTES_MAX


WORDS = (
    b"[journal]\n", b"[mount]\n", b"[mount.points]\n", b"segment_size", b"ack", b"allow_other", b"uid", b"gid", b"transport", b"data",
    b"kernel_verify", b"scratch", b"points", b'"64M"', b'"both"', b'"auto"', b'"verify"', b'"kernel"', b'"/var/tmp"', b" = ", b"[[", b"]]",
    b'"""', b"'''", b"#", b"1979-05-27T07:32:00Z", b"0x", b"inf", b"nan", b"a.b.c = 1\n", b"mount = ",
    b"[archive.a]\n", b'[media.m]\nkind = "pool"\npath = "/p"\ncapacity = "1G"\n', b"bookmarks", b"full",
    b"nth", b"protect", b"which", b"per", b'to = "m"\n',
)  # fmt: skip

if __name__ == "__main__":
    main(run, WORDS)
