"""Recall: what a chain of archives holds, from tape into a directory of images.

One archive after the other, piece by piece, in the order in which they were written. What was read is on stable storage before the next
piece begins, and each archive is read back and compared with its digests before the next one is laid onto it.

Source: docs/recall.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import msgspec

from vsnapfs.archive.asking import UnansweredError
from vsnapfs.archive.chain import Plan
from vsnapfs.archive.damage import Filled, Flaw, Lost
from vsnapfs.archive.filling import Other, fill
from vsnapfs.archive.given import GivenTapes
from vsnapfs.archive.landing import Landing
from vsnapfs.archive.layer import Layer, Options
from vsnapfs.archive.manifest import Manifest
from vsnapfs.core.errors import from_object, to_object
from vsnapfs.core.state import Progress

Report = Callable[[Progress], None]


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    manifest: Manifest
    """Of the last archive."""
    archives: tuple[str, ...]
    sums: tuple[str, ...]
    """SHA-256 of the SHA256SUMS of each; "": they could not be read."""
    images: dict[str, str]
    """Path by volume."""
    resumed: bool
    verified: bool
    flaws: list[Flaw]
    lost: list[Lost]
    filled: list[Filled] = []
    """What would have been lost, but for other copies."""


class Recall:
    """One recall of a plan into a landing, which stay the caller's. others: asked for only if something is lost.

    Concurrency: one thread.
    """

    def __init__(
        self,
        plan: Plan,
        given: GivenTapes,
        landing: Landing,
        options: Options,
        report: Report,
        others: Iterable[Other] = (),
    ) -> None:
        self._plan, self._given, self._landing, self._options = plan, given, landing, options
        self._report = report
        self._others: Iterator[Other] = iter(others)
        self._damage = landing.damage
        self._done_bytes = 0
        self._total_bytes = sum(p.entry.stored_bytes for step in plan.steps for p in step.pieces if p.entry)

    def run(self, *, publish: bool = True) -> Recalled:
        """publish: images get their names; else they stay ``*.partial``, and the landing can be resumed, until it is discarded.

        Raises: NotFoundError: something is missing, before the first byte where that can be known then. UsageError: a key.
        NoSpaceError, StoreError, BusyError: what is done stays, for a resume.
        """
        if not self._options.salvage:
            self._plan.require_whole()
        try:
            return self._run(publish=publish)
        except UnansweredError as error:
            raise error.error from error

    def _run(self, *, publish: bool) -> Recalled:
        begun = self._landing.state
        manifest: Manifest | None = None
        for number in range(begun.step, len(self._plan.steps)):
            resumed = number == begun.step
            manifest = self._archive(number, begun.piece if resumed else 0, begun.stream_bytes if resumed else 0)
        if manifest is None:  # all was done by a try before
            manifest = Layer(self._plan.steps[-1], self._given, self._landing, self._options).contents().manifest
        if self._damage.lost() and (self._landing.state.filled is None or self._landing.state.unanswered is not None):
            self._fill(manifest)
        images = self._landing.finish() if publish else self._landing.partials()
        return Recalled(
            manifest=manifest,
            archives=begun.archives,
            sums=tuple(self._landing.state.sums),
            images={name: str(path) for name, path in images.items()},
            resumed=self._landing.is_resumed,
            verified=self._options.verify,
            flaws=self._damage.flaws,
            lost=self._damage.lost(),
            filled=self._landing.state.filled or [],
        )

    def _fill(self, manifest: Manifest) -> None:
        """From other copies, what is lost, as long as something is."""
        self._landing.begin(manifest)
        for lost in self._damage.lost():
            if lost.zeros and self._landing.is_resumed:  # a try before may have begun with this
                self._landing.zero(lost.volume, lost.offset_bytes, lost.length_bytes)
        filled = list(self._landing.state.filled or [])
        if self._landing.is_resumed and self._landing.state.unanswered is not None:
            silent: list[UnansweredError] = []
            filled += fill(self._landing, Other(self._plan, self._given), self._options, silent)
            self._landing.owe(to_object(silent[0].error) if silent else None)
        for other in self._others if self._damage.lost() else ():
            filled += fill(self._landing, other, self._options)
            if not self._damage.lost():
                break
        self._landing.add_filled(filled)
        self._landing.settle(len(self._plan.steps), 0, 0)
        unanswered = self._landing.state.unanswered
        if self._damage.lost() and unanswered is not None and not self._options.salvage:
            raise from_object(unanswered)

    def _go_on_without(self, error: UnansweredError) -> None:
        """What there is no answer for is looked for in other copies, in the end. Raises: UnansweredError: there are none."""
        if self._options.salvage:
            return
        other = next(self._others, None)
        if other is None:
            raise error
        self._others = itertools.chain([other], self._others)
        self._landing.owe(to_object(error.error))

    def _archive(self, number: int, first: int, done_bytes: int) -> Manifest:
        step = self._plan.steps[number]
        layer = Layer(step, self._given, self._landing, self._options, done_bytes)
        contents = layer.contents()
        self._landing.begin(contents.manifest)
        layer.clear()
        for place, piece in enumerate(step.pieces[first:], first):
            try:
                layer.piece(piece)
            except UnansweredError as error:
                self._go_on_without(error)
                layer.give_up(piece, error)
            self._landing.settle(number, place + 1, layer.done_bytes)
            self._done_bytes += piece.entry.stored_bytes if piece.entry else 0
            self._report(Progress(what="recall", done=self._done_bytes, total=self._total_bytes))
        layer.end()
        if self._options.verify:
            layer.verify()
        self._landing.add_sums(layer.sums_sha256())
        self._landing.settle(number + 1, 0, 0)
        return contents.manifest


def plan_lines(plan: Plan) -> list[str]:
    """What a recall needs, for people: before it begins."""
    kinds = [f"{step.archive.kind} archive {step.archive.uuid[:8]}" for step in plan.steps]
    labels = [tape.label for tape in plan.tapes]
    return [
        f"{len(plan.steps)} archive{'s' if len(kinds) > 1 else ''}: {', then '.join(kinds)}",
        f"tapes, in this order: {', '.join(labels)}",
    ]
