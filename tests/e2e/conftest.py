"""A repository, its server and its command, each a real process, as a user has them."""

from __future__ import annotations
