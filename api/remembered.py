"""Things that are costly to make, kept while there is room; those that were not asked for the longest go first."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

T = TypeVar("T")


class Remembered(Generic[T]):
    """At most `max_bytes` of them, as `size_of` measures each. Safe to share between threads."""

    def __init__(self, max_bytes: int, size_of: Callable[[T], int]) -> None:
        self._kept: LRUCache[Hashable, T] = LRUCache(max_bytes, getsizeof=size_of)
        self._max_bytes, self._size_of = max_bytes, size_of
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` has made under this key; two threads that ask at once may both make it."""
        with self._lock:
            if key in self._kept:
                return self._kept[key]
        made = make()
        if self._size_of(made) <= self._max_bytes:
            with self._lock:
                self._kept[key] = made
        return made

    def __len__(self) -> int:
        return len(self._kept)
