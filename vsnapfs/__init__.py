"""Continuous data protection in plain files: every write journalled, every point a directory of complete volumes.

The typed API::

    from vsnapfs import Repository

    with Repository.open(Path("/var/lib/vsnapfs"), owner=False) as repository:
        point = repository.resolve("before-upgrade")
        with repository.view("db0", point) as view:
            first = view.read(0, 4096)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vsnapfs.core.errors import VsnapfsError

if TYPE_CHECKING:
    from vsnapfs.repository.repository import Repository

__version__ = "0.1.0"
__all__ = ["Repository", "VsnapfsError", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the C library only when the repository is asked for, so that the command starts fast."""
    if name == "Repository":
        from vsnapfs.repository.repository import Repository

        return Repository
    raise AttributeError(f"module 'vsnapfs' has no attribute {name!r}")
