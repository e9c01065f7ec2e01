"""What a log tells, as a Hunt: at the end, and at any moment before. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vsnapfs.core.hunt import Hunt, HuntState
from vsnapfs.core.model import Point
from vsnapfs.hunt.log import End, Named, Past
from vsnapfs.hunt.search import Contradiction, Narrowed, WrongEnd, narrowed, untested

UNFINISHED = "it did not come to its end"


def outcome(past: Past, log: str, candidates: Sequence[int] | None = None, first_bad: Point | None = None) -> Hunt:
    """What was found so far.

    Args: candidates: those of the last search, which has ended; None: it was not said to have. first_bad: a point that is known to
    be the first of its state.
    """
    ended = [entry for entry in past.entries if isinstance(entry, End)]
    if candidates is None and ended:
        return msgspec.structs.replace(ended[-1].hunt, log=log)
    begin, verdicts = past.begin, past.verdicts
    ends = (begin.good_state, begin.bad_state)
    known = narrowed(begin.good_state, begin.bad_state, verdicts)
    good, bad = (known.good, known.bad) if isinstance(known, Narrowed) else (begin.good_state, begin.bad_state)
    points = _points(past)
    left = 0 if candidates is None or not isinstance(known, Narrowed) else untested(candidates, known, verdicts)
    state, why, against = _state(known, points, left, ended=candidates is not None)
    if isinstance(known, WrongEnd):
        why += "".join(f": {told.probe.why}" for told in past.told if told.state == known.state and told.probe.why)
    return Hunt(
        id=begin.id,
        state=state,
        why=why,
        good=begin.good,
        bad=begin.bad,
        volumes=list(begin.volumes),
        test=list(begin.test),
        last_good=points[good][-1],
        first_bad=first_bad or points[bad][0],
        last_good_bookmark=_newest(past.named, good),
        first_bad_bookmark=_oldest(past.named, bad),
        skipped=[points[skip][0] for skip in known.skipped] if isinstance(known, Narrowed) else [],
        untested=left,
        ends=[told.probe for told in past.told if told.state in ends],
        probes=[told.probe for told in past.told if told.state not in ends],
        contradiction=against,
        safety_bookmark=begin.safety_bookmark if past.is_safe else "",
        log=log,
        write=None,
        write_problem="",
    )


def _state(
    known: Narrowed | Contradiction | WrongEnd, points: dict[int, list[Point]], left: int, *, ended: bool
) -> tuple[HuntState, str, list[Point]]:
    match known:
        case WrongEnd(state, said, found):
            what = "could not be tested" if found == "skip" else f"is {found}"
            return "contradiction", f"@{points[state][0].seqno} was said to be {said} and {what}", [points[state][0]]
        case Contradiction(bad, good):
            against = [points[bad][0], points[good][-1]]
            why = f"@{against[0].seqno} is bad and the later @{against[1].seqno} is good"
            return (
                "contradiction",
                f"{why}: the test is not always the same, or the defect went away in between",
                against,
            )
    if not ended:
        return "unfinished", UNFINISHED, []
    if known.skipped:
        why = f"{len(known.skipped)} points between the last good and the first bad one could not be tested"
        return "range", f"{why}, and {left} were not" if left else why, []
    return "found", "", []


def _points(past: Past) -> dict[int, list[Point]]:
    """All points that were heard of, by state, each in order."""
    begin, named = past.begin, past.named
    heard = [(begin.good_state, begin.good), (begin.bad_state, begin.bad)]
    heard += zip(named.states, named.bookmarks, strict=True)
    heard += [(told.state, told.probe.point) for told in past.told]
    found: dict[int, dict[int, Point]] = {}
    for state, point in heard:
        by_seqno = found.setdefault(state, {})
        if point.seqno not in by_seqno or point.bookmark is not None:
            by_seqno[point.seqno] = point
    return {state: [by_seqno[seqno] for seqno in sorted(by_seqno)] for state, by_seqno in found.items()}


def _newest(named: Named, good: int) -> str | None:
    names = [point.bookmark for point, state in zip(named.bookmarks, named.states, strict=True) if state <= good]
    return names[-1] if names else None


def _oldest(named: Named, bad: int) -> str | None:
    names = (point.bookmark for point, state in zip(named.bookmarks, named.states, strict=True) if state >= bad)
    return next(names, None)
