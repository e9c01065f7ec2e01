"""Groups of commands that know what was meant."""

from __future__ import annotations

import click

from vsnapfs.core.errors import UsageError
from vsnapfs.core.names import near

MEANT = {"delete": "remove", "del": "remove", "rm": "remove", "ls": "list", "create": "add", "new": "add"}
"""What other programs call our commands."""


class NearGroup(click.Group):
    """Answers an unknown command with the names that look like it, or mean it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            meant = MEANT.get(args[0])
            like = [meant] if meant in known else near(args[0], known)
            advice = f"did you mean {' or '.join(like)}?" if like else f"{ctx.command_path} --help lists all"
            raise UsageError(f"no command {args[0]!r}", hint=advice)
        return super().resolve_command(ctx, args)
