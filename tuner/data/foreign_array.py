"""An array in a file that somebody has sent: read a block of rows at a time, and never believed to be as large as it says."""

import gzip
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from tuner.errors import DamagedData

BLOCK = 1 << 20
"""Bytes of the rows that are in memory at once; one row may have more."""

Rows = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ForeignArray:
    """`name` is what errors call it. `open_items` gives, each time anew, a stream that stands at the array's first item."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    open_items: Callable[[], AbstractContextManager[IO[bytes]]]

    @property
    def nbytes(self) -> int:
        """That the items take, if there are as many as the header says."""
        return math.prod(self.shape) * self.dtype.itemsize

    def blocks(self) -> Iterator[Rows]:
        """All rows (count, *shape[1:]), in order. Raises DamagedData where the items are fewer or more than the header says, or
        the archive around them is damaged."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        at_once, count = max(1, BLOCK // row), self.shape[0]
        with reporting_damage(self.name), self.open_items() as stream:
            for first in range(0, count, at_once):
                rows = min(at_once, count - first)
                items = self._read(stream, rows * row, first * row)
                yield np.frombuffer(items, self.dtype).reshape(rows, *self.shape[1:])
            if stream.read(1):  # also has the archive compare its checksum
                raise self._of_another_size(f"more than {self.nbytes}")

    def _read(self, stream: IO[bytes], size: int, before: int) -> bytearray:
        items = bytearray()
        while len(items) < size and (piece := stream.read(size - len(items))):
            items += piece
        if len(items) < size:
            raise self._of_another_size(str(before + len(items)))
        return items

    def _of_another_size(self, got: str) -> DamagedData:
        return DamagedData(f"{self.name}: shape {self.shape} takes {self.nbytes} bytes, but got {got}")


@contextmanager
def reporting_damage(name: str) -> Iterator[None]:
    """Turns what the readers of gzip and zip archives raise into DamagedData."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedData(f"{name}: must be a whole compressed stream, but {error}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DamagedData(f"{name}: must be a whole and plain member of a zip archive, but {error}") from error
