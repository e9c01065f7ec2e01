"""Images taken over as new points."""

from __future__ import annotations
