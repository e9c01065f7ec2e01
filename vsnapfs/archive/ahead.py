"""Reading ahead: what comes next is read while what came before is still being worked on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

ITEMS = 16
"""Of a megabyte, mostly."""
Item = TypeVar("Item")


class _Failed(NamedTuple):
    error: BaseException


def ahead(items: Iterable[Item], give_up: Callable[[], None] | None = None) -> Generator[Item]:
    """The same items, taken in a thread of their own, up to ``ITEMS`` of them before they are asked for.

    give_up: is called when this is closed, so that an item under way that may never come ends.

    Raises: whatever ``items`` does, where it did. Resource handling: the thread lives from the first item on, and ends with the last,
    or when this is closed, which waits for the item under way; ``items`` is closed in it, if it can be.
    """
    ready: SimpleQueue[tuple[Item] | _Failed | None] = SimpleQueue()
    room = threading.Semaphore(ITEMS)
    closed = threading.Event()

    def taking() -> None:
        end: _Failed | None = None
        try:
            for item in items:
                room.acquire()
                if closed.is_set():
                    break
                ready.put((item,))
        except BaseException as error:  # noqa: BLE001  raised again by who asks
            end = _Failed(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        ready.put(end)

    thread = threading.Thread(target=taking, name="archive-ahead", daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, _Failed):
                raise found.error
            room.release()
            yield found[0]
    finally:
        closed.set()
        room.release()
        if give_up is not None:
            give_up()
        thread.join()
