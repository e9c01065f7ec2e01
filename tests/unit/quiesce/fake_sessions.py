"""A connection to a database that answers from a table, and notes what it was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = list[tuple[str, ...]]
Answer = Rows | Exception


class FakeSession:
    """answers: of statements that begin so; a list: one after the other, the last one for ever. Others say nothing. ``log``: what was
    asked, by the first words of it, in order, also by others that share it."""

    def __init__(self, log: list[str], answers: Mapping[str, Answer | list[Answer]], name: str = "") -> None:
        self.log = log
        self.limits: list[float] = []
        self.closed = 0
        self._name = name
        self._answers = {
            start: list(a) if isinstance(a, list) and not _is_rows(a) else [a] for start, a in answers.items()
        }

    def ask(self, sql: str, _until: float, *_values: str, s_max: float = math.inf) -> Rows:
        text = " ".join(sql.split())
        self.log.append(self._name + text)
        self.limits.append(s_max)
        for start, answers in self._answers.items():
            if text.startswith(start):
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(answer, Exception):
                    raise answer
                return answer  # type: ignore[return-value]
        return []

    def roll_back(self, until: float) -> None:
        self.ask("ROLLBACK", until)

    def close(self) -> None:
        self.closed += 1


def _is_rows(answers: Sequence[object]) -> bool:
    return all(isinstance(answer, tuple) for answer in answers)
