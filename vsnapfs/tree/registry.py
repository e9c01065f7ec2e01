"""Which node stands behind each inode number that the kernel remembers."""

from __future__ import annotations

from collections.abc import Iterable

from vsnapfs.tree.nodes import Node


class Registry:
    """Nodes by inode number, with the kernel's lookup counts.

    The kernel counts each entry it is given and tells in FORGET how many it dropped; at zero the node goes. A number
    means the same node for ever, so the newest node for it replaces the one before (another point of the same view).
    Threads: one, the event loop's.
    """

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._counts: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def remember(self, node: Node) -> None:
        """The kernel was given an entry for this node."""
        ino = node.ino
        self._nodes[ino] = node
        self._counts[ino] = self._counts.get(ino, 0) + 1

    def get(self, ino: int) -> Node | None:
        """None: not remembered; the number may still say which it is (Tree.node)."""
        return self._nodes.get(ino)

    def forget(self, drops: Iterable[tuple[int, int]]) -> None:
        """drops: inode number and how many lookups of it the kernel dropped."""
        for ino, count in drops:
            left = self._counts.get(ino, 0) - count
            if left > 0:
                self._counts[ino] = left
            else:
                self._counts.pop(ino, None)
                self._nodes.pop(ino, None)
