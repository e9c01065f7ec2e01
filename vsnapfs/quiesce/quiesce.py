"""The asker's side: start a freezer, make a mark while all are still, have them let go, learn what became of it.

    with quiesced(profile, occasion, grounds) as still:
        mark = ...                       # all are still
    still.members                        # they were, from the beginning of the block to its end

Whatever happens in the block or to this process, all are thawed. Nothing that was done in the block may be believed before
the block has been left without an error.
"""

from __future__ import annotations

import math
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from vsnapfs.core.errors import QuiesceError, TimedOutError, VsnapfsError, from_object
from vsnapfs.core.model import MemberOutcome, QuiescePhase
from vsnapfs.policy.profiles import Profile, kind_of
from vsnapfs.quiesce import messages
from vsnapfs.quiesce.freeze import TURN_S
from vsnapfs.quiesce.ground import Ground
from vsnapfs.quiesce.member import THAW_S_MAX, Occasion

START_S_MAX = 30.0
"""A freezer is a process that is started: on a busy machine that takes a while, and nobody is still yet."""
SLACK_S = 3.0
REAP_S = 1.0
LOOK_S = 0.25
"""How often whoever waits is told that it still does."""


class NotStill(Exception):  # noqa: N818  what is raised in the end is ``error``
    """Somebody could not be made still, or was not for long enough; all were let go. error: why. members: what is known of each."""

    def __init__(self, error: VsnapfsError, members: tuple[MemberOutcome, ...]) -> None:
        super().__init__(str(error))
        self.error = error
        self.members = members


class Still:
    """members: as is known; whole when the block has been left."""

    def __init__(self, members: tuple[MemberOutcome, ...]) -> None:
        self.members = members


class Listener:
    """Is told how it goes on; all may raise, which ends the quiesce. phase: where it is. remark: odd, and no failure. alive: now
    and then while nothing happens."""

    def phase(self, phase: QuiescePhase) -> None: ...
    def remark(self, text: str) -> None: ...
    def alive(self) -> None: ...


@contextmanager
def quiesced(
    profile: Profile, occasion: Occasion, grounds: Sequence[Ground], listener: Listener | None = None
) -> Iterator[Still]:
    """Have all members of a profile still while the block runs.

    Args: grounds: what must not be made still. Raises: NotStill: when it is entered: somebody could not be made still; when it is left: the
    deadline passed, or a process died, before the block was done. Whatever the block or the listener raises.
    """
    asking = _Asking(profile, listener or Listener())
    try:
        asking.begin(occasion, grounds)
        still = Still(asking.wait_frozen())
        yield still
    except BaseException:
        asking.thaw()
        raise
    else:
        still.members = asking.end()
    finally:
        asking.close()


class _Asking:
    """One freezer. Threads: none."""

    def __init__(self, profile: Profile, listener: Listener) -> None:
        self._profile = profile
        self._listener = listener
        self._members: tuple[MemberOutcome, ...] = ()
        self._freezing_since = math.inf
        self._is_over = False
        self._thaw_s_max = len(profile.members) * TURN_S + THAW_S_MAX + SLACK_S
        self._line, theirs = messages.pair()
        try:
            self._process = _started(theirs)
        except BaseException:
            self._line.close()
            raise
        finally:
            theirs.close()

    def begin(self, occasion: Occasion, grounds: Sequence[Ground]) -> None:
        with suppress(OSError):
            messages.send(self._line, messages.Job(self._profile, occasion, list(grounds)))

    def wait_frozen(self) -> tuple[MemberOutcome, ...]:
        """Raises: NotStill."""
        return self._wait(START_S_MAX + 2 * self._profile.deadline_s + self._thaw_s_max, messages.Frozen)

    def end(self) -> tuple[MemberOutcome, ...]:
        """Thaw, and learn whether all were still until now. Raises: NotStill."""
        self._say_thaw()
        return self._wait(self._thaw_s_max, messages.Ended)

    def thaw(self) -> None:
        """The same for who does not want to know, but that nobody is frozen any more."""
        if self._is_over:
            return
        self._say_thaw()
        self._listener = Listener()
        with suppress(NotStill):
            self._wait(self._thaw_s_max, messages.Ended)

    def close(self) -> None:
        """The end of the line thaws, if nothing else has."""
        self._line.close()
        try:
            self._process.wait(REAP_S)
        except subprocess.TimeoutExpired:  # a freeze that does not return: the freezer stays until it does
            threading.Thread(target=self._process.wait, name="freezer", daemon=True).start()

    def _say_thaw(self) -> None:
        with suppress(OSError):
            messages.send(self._line, messages.Thaw())

    def _wait(self, seconds: float, wanted: type[messages.Frozen | messages.Ended]) -> tuple[MemberOutcome, ...]:
        until = time.monotonic() + seconds
        while True:
            message = self._next(until)
            self._is_over = isinstance(message, messages.Ended)
            match message:
                case messages.Phase(phase):
                    self._freezing_since = time.monotonic() if phase == "freezing" else self._freezing_since
                    self._listener.phase(phase)
                case messages.Remark(text):
                    self._listener.remark(text)
                case messages.Frozen(members):
                    self._members = members
                case messages.Ended(members, error) if error is not None:
                    raise NotStill(from_object(error), members)
                case messages.Ended(members, _):
                    self._members = members
            if isinstance(message, wanted):
                return self._members

    def _next(self, until: float) -> messages.FromFreezer:
        """Raises: NotStill: there is none, or none in time."""
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        while not poll.poll(LOOK_S * 1000):
            self._listener.alive()
            if time.monotonic() >= until:
                raise self._untold(TimedOutError("the freezer does not answer"))
        content = messages.receive(self._line)
        if not content:
            raise self._untold(self._death())
        message: messages.FromFreezer = msgspec.json.decode(content, type=messages.FromFreezer)
        return message

    def _untold(self, error: VsnapfsError) -> NotStill:
        """What to raise when the freezer will not say what became of the members: none of them was still, as far as is known."""
        unknown = tuple(
            MemberOutcome(
                name=member.name, kind=kind_of(member), outcome="failed", consistency="crash", error=str(error)
            )
            for member in self._profile.members
        )
        return NotStill(error, self._members or unknown)

    def _death(self) -> VsnapfsError:
        """A freezer that dies after the deadline was killed by the guard, since it did not thaw."""
        if time.monotonic() - self._freezing_since >= self._profile.deadline_s:
            return TimedOutError(
                f"the deadline of {self._profile.deadline_s:g} s has passed, and the freezer had to be killed"
            )
        return QuiesceError(
            "the freezer died", hint="its guard has thawed all; if both were killed: fsfreeze --unfreeze"
        )


def _started(line: socket.socket) -> subprocess.Popen[bytes]:
    """In a session of its own: no key on a terminal ends it. -P: the working directory may hold another vsnapfs."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "vsnapfs.quiesce.freezer", str(line.fileno())],
        pass_fds=[line.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=dict(os.environ),
    )
