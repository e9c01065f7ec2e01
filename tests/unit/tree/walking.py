"""Paths in a tree without a mount."""

from __future__ import annotations

from vsnapfs.tree import inodes
from vsnapfs.tree.nodes import Directory, Fixed, Node
from vsnapfs.tree.tree import Tree


def walk(tree: Tree, path: str) -> Node:
    """The node of a path below the mount point; "" is the mount point."""
    node: Node = Fixed(inodes.ROOT)
    for name in path.split("/") if path else []:
        node = tree.lookup(node, name)
    return node


def listed(tree: Tree, path: str) -> list[str]:
    """Names in a directory."""
    node = walk(tree, path)
    assert isinstance(node, Directory)
    return [entry.name for entry in tree.entries(node)]
