"""A segment torn, damaged, missing, swapped, foreign or newer: what the command says."""

from __future__ import annotations
