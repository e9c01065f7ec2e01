"""``python -m vsnapfs.cli``: the command, for whoever starts it by module."""

from __future__ import annotations

from vsnapfs.cli.main import main

main()
