"""A queue that `multiprocessing.connection.wait` can wait on together with pipes and sentinels."""

import os
import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Any thread puts, one thread takes. It is readable, as a file is, while there is something to take."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._lock = threading.Lock()
        self._closed = False
        self._readable, self._writable = os.pipe()

    def fileno(self) -> int:
        return self._readable

    def put(self, item: T) -> bool:
        """Whether the item was taken in: a closed inbox takes nothing."""
        with self._lock:
            if self._closed:
                return False
            if not self._items:
                os.write(self._writable, b"\0")
            self._items.append(item)
            return True

    def take(self) -> list[T]:
        """Everything put so far, in order; the inbox is empty afterwards."""
        with self._lock:
            items, self._items = self._items, []
            if items:
                os.read(self._readable, 1)
            return items

    def close(self) -> list[T]:
        """The items that nobody took; from now on none is taken in."""
        with self._lock:
            items, self._items = self._items, []
            if not self._closed:
                self._closed = True
                os.close(self._readable)
                os.close(self._writable)
            return items
