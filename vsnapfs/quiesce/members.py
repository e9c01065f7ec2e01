"""Members from their settings: the one place that knows every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vsnapfs.policy.profiles import CommandSettings, FsfreezeSettings, MemberSettings
from vsnapfs.quiesce.command import CommandMember
from vsnapfs.quiesce.fsfreeze import FsfreezeMember
from vsnapfs.quiesce.ground import Ground
from vsnapfs.quiesce.member import Member, Occasion
from vsnapfs.quiesce.program import Watch


def member_of(
    settings: MemberSettings,
    occasion: Occasion,
    grounds: Sequence[Ground],
    watch: Watch,
    remark: Callable[[str], None],
) -> Member:
    """What carries the settings out. grounds: what must not be made still. watch: knows of processes. remark: told what is
    odd."""
    match settings:
        case FsfreezeSettings():
            return FsfreezeMember(settings, grounds)
        case CommandSettings():
            return CommandMember(settings, occasion, watch, remark)
