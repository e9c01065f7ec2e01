"""Identifiers, points, sizes, times, values and errors of the project: pure, without input or output."""
