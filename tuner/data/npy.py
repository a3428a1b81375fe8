"""The header of a .npy file from outside, read without trusting it.

numpy's own reader first takes as many bytes as the header says that it has, up to 4 GiB, and looks then; so the length is
looked at here, before, and numpy is given no more than that.
"""

import io
import struct
import tokenize
from typing import IO, Any

import numpy as np

from tuner.errors import DamagedData

MAX_HEADER = 10_000
"""Bytes; numpy's own limit for files that nobody has vouched for."""

READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
LENGTHS = {(1, 0): "<H", (2, 0): "<I"}


def read_header(name: str, stream: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The items' type and the array's shape; the stream then stands at the first item.

    Raises DamagedData, which calls the array `name`, also for objects (they would be pickles) and for Fortran's order.
    """
    magic = _read(stream, 8)
    version = (magic[6], magic[7]) if len(magic) == 8 and magic[:6] == np.lib.format.MAGIC_PREFIX else None
    if version not in READERS:
        raise DamagedData(f"{name}: must be a .npy file of version 1.0 or 2.0, but begins with {magic.hex()!r}")
    told = _read(stream, struct.calcsize(LENGTHS[version]))
    length = struct.unpack(LENGTHS[version], told)[0] if len(told) == struct.calcsize(LENGTHS[version]) else 0
    if not 0 < length <= MAX_HEADER:
        raise DamagedData(f"{name}: a .npy header has 1 to {MAX_HEADER} bytes, but this one has {length}")
    header = io.BytesIO(told + _read(stream, length))
    try:
        shape, in_fortrans_order, dtype = READERS[version](header, max_header_size=MAX_HEADER)
    except (ValueError, SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise DamagedData(f"{name}: must have a .npy header, but {str(error)[:200]}") from error
    if dtype.hasobject:
        raise DamagedData(f"{name}: must hold numbers, but got the type object, whose items would be pickles")
    if in_fortrans_order:
        raise DamagedData(f"{name}: must be stored in C's order (numpy.ascontiguousarray), but got Fortran's")
    if any(size < 0 for size in shape):
        raise DamagedData(f"{name}: no size may be negative, but got the shape {shape}")
    return dtype, shape


def _read(stream: IO[bytes], size: int) -> bytes:
    """`size` bytes, or fewer at the stream's end."""
    content = b""
    while len(content) < size and (piece := stream.read(size - len(content))):
        content += piece
    return content
