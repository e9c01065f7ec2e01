"""Repository paths that are none of ours, a second server, and a configuration with mistakes."""

from __future__ import annotations
