"""The writable file of a volume refuses and accepts what a disk does."""

from __future__ import annotations
