"""Exports that cannot end: a closed pipe, a full disk."""

from __future__ import annotations
