"""What one recall has lost, from another copy: another archive of the same point, another chain to it, or a copy of a tape.

All of the other chain is laid out again, but what reaches the images is the lost ranges alone, which are zeros before. So each range
becomes what that chain makes of it, whatever the two have in common, and what it lacks too stays lost.

Source: docs/recall.md, section on second copies.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vsnapfs.archive.asking import UnansweredError
from vsnapfs.archive.chain import Plan
from vsnapfs.archive.damage import Damage, Filled, Flaw, Lost
from vsnapfs.archive.given import GivenTapes
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.layer import Layer, Options
from vsnapfs.archive.manifest import Manifest
from vsnapfs.core.errors import NotFoundError, UsageError, VsnapfsError

EVERYTHING = 1 << 63


class Other(NamedTuple):
    """Another way to make the point, and the tapes for it."""

    plan: Plan
    given: GivenTapes


def fill(landing: Landing, other: Other, options: Options, silent: list[UnansweredError] | None = None) -> list[Filled]:
    """Of what is lost in a landing whose recall is done, what another copy has. The landing's damage is what is left then.

    silent: gets what was met in place of an answer. Raises: StoreError, NoSpaceError: of the landing. What cannot be read of the other
    copy is only not filled.
    """
    patch = Patch(landing)
    silent = [] if silent is None else silent
    options = options._replace(salvage=True)
    layers = [Layer(step, other.given, patch, options) for step in other.plan.steps]
    try:
        manifests = [layer.contents().manifest for layer in layers]
    except UnansweredError as error:
        silent.append(error)
        return []
    except VsnapfsError:  # it is damaged too, or encrypted to somebody else
        return []
    if not patch.expect(manifests[-1]):
        return []
    for layer, manifest in zip(layers, manifests, strict=True):
        if patch.begin(manifest):
            _lay(layer, patch, silent)
    patch.forget_the_rest()
    try:
        if options.verify:
            layers[-1].verify()
    except UnansweredError as error:  # the digests of what is right by its checksums
        silent.append(error)
    return patch.end(other.plan)


def _lay(layer: Layer, patch: Patch, silent: list[UnansweredError]) -> None:
    layer.clear()
    for piece in layer.pieces:
        entry = piece.entry
        if entry is not None and entry.index_bytes and not patch.meets(layer, entry.stream_offset, entry.stream_bytes):
            layer.skip(piece)  # nothing of it is needed
            continue
        try:
            layer.piece(piece)
        except UnansweredError as error:
            silent.append(error)
            layer.give_up(piece, error)
        except (NotFoundError, UsageError) as error:  # no program, or no key
            patch.damage.flaw(Flaw(tape=piece.label, file=-1, why=error.message))
            break
    layer.end()


class Patch:
    """A landing of which the lost ranges alone can be written. See layer.Target. Concurrency: one thread."""

    def __init__(self, landing: Landing) -> None:
        self.damage = Damage()
        """Of the other copy."""
        self._landing = landing
        self._ids: dict[str, int] = {}
        self._lost: dict[str, list[Lost]] = {}
        """By volume: what was lost, in order."""
        self._here: set[str] = set()
        """Volumes that the archive under way has."""

    def expect(self, last: Manifest) -> bool:
        """By what the other chain ends with: volumes that are the same there. What is lost of them becomes zeros.
        False: there is none."""
        known = self._landing.volumes
        self._ids = {volume.name: volume.id for volume in last.volumes if known.get(volume.name) == volume.id}
        self._lost = {name: lost for name in self._ids if (lost := self._landing.damage.lost(name))}
        for name in self._lost:
            self.zero(name, 0, EVERYTHING)
        return bool(self._lost)

    def begin(self, manifest: Manifest) -> bool:
        """The next archive of the chain. False: it has nothing of what is lost."""
        self._here = {
            volume.name
            for volume in manifest.volumes
            if volume.name in self._lost and self._ids[volume.name] == volume.id
        }
        for volume in (each for each in manifest.volumes if each.name in self._here):
            self.zero(volume.name, volume.size_bytes, EVERYTHING - volume.size_bytes)
            self.damage.mend(volume.name, volume.size_bytes, EVERYTHING)
        return bool(self._here)

    def wants(self, volume: str) -> bool:
        return volume in self._here

    def meets(self, layer: Layer, offset_bytes: int, length_bytes: int) -> bool:
        """Whether a run of an archive's stream has anything of what is lost."""
        return any(
            next(self._within(part.volume, *place), None) is not None
            for part in layer.contents().parts(offset_bytes, length_bytes)
            if part.volume is not None and part.volume in self._here
            for place in part.member.extents.places(part.inside, part.length_bytes)
        )

    def write(self, volume: str, offset_bytes: int, content: memoryview) -> None:
        for start, end in self._within(volume, offset_bytes, len(content)):
            self._landing.write(volume, start, content[start - offset_bytes : end - offset_bytes])

    def zero(self, volume: str, offset_bytes: int, length_bytes: int) -> None:
        for start, end in self._within(volume, offset_bytes, length_bytes):
            self._landing.zero(volume, start, end - start)

    def readinto(self, volume: str, offset_bytes: int, buffer: memoryview) -> None:
        self._landing.readinto(volume, offset_bytes, buffer)

    def forget_cache(self, volume: str) -> None:
        self._landing.sync()
        self._landing.forget_cache(volume)

    def forget_the_rest(self) -> None:
        """What the other copy has lost of what was not lost here."""
        lost = [
            msgspec.structs.replace(one, offset_bytes=start, length_bytes=end - start)
            for one in self.damage.lost()
            for start, end in self._within(one.volume, one.offset_bytes, one.length_bytes)
        ]
        self.damage = Damage(self.damage.flaws, lost)

    def end(self, plan: Plan) -> list[Filled]:
        """What is still lost stays so in the landing's damage. Returns: the rest."""
        for flaw in self.damage.flaws:
            self._landing.damage.flaw(flaw)
        filled = Damage(lost=[lost for name in self._lost for lost in self._lost[name]])
        for lost in filled.lost():
            self._landing.damage.mend(lost.volume, lost.offset_bytes, lost.length_bytes)
        for lost in self.damage.lost():
            filled.mend(lost.volume, lost.offset_bytes, lost.length_bytes)
            self._landing.damage.lose(lost)
        labels = tuple(tape.label for tape in plan.tapes)
        return [
            Filled(
                volume=lost.volume,
                offset_bytes=lost.offset_bytes,
                length_bytes=lost.length_bytes,
                archive=plan.point.uuid,
                tapes=labels,
            )
            for lost in filled.lost()
        ]

    def _within(self, volume: str, offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int]]:
        """What of a range was lost, half-open."""
        lost, end = self._lost.get(volume, []), offset_bytes + length_bytes
        for at in range(bisect_right(lost, offset_bytes, key=lambda one: one.end_bytes), len(lost)):
            if lost[at].offset_bytes >= end:
                return
            yield max(lost[at].offset_bytes, offset_bytes), min(lost[at].end_bytes, end)
