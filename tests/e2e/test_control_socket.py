"""The control socket against clients that are wrong, rude or broken."""

from __future__ import annotations
