"""Existing images and block devices as primaries, from the first bookmark to resync and resize."""

from __future__ import annotations
