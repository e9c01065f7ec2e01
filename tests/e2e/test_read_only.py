"""snaps, at and diff: every change is refused; a damaged block costs itself alone."""

from __future__ import annotations
