"""Points on tape: the stream of an archive, its pieces, what stands behind each of them, and how they are written.

Source: docs/tape-format.md.
"""
