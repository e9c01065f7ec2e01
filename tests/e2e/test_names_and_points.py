"""Names that are bad, unknown or taken, points outside the window: exit status, errno, hint."""

from __future__ import annotations
