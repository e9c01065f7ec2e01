"""Maps and the catalog are made again, and what was there is kept."""

from __future__ import annotations
