"""The IDX format of the original MNIST files.

A file is: two zero bytes, a type code, the number of dimensions n, n sizes (big-endian uint32), then the items in C order,
big-endian. Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from tuner.errors import DamagedData

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray[Any, Any]:
    """The array in an IDX file, gzipped or not, in native byte order.

    Raises DamagedData for anything that is not exactly one whole array; OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if not zipped:
            return _read_array(path, file)
        try:
            with gzip.open(file) as stream:
                return _read_array(path, cast(IO[bytes], stream))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedData(f"{path.name}: must be a whole gzip stream, but {error}") from error


def read_header(name: str, stream: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The items' type and the array's shape; the stream then stands at the first item.

    Raises DamagedData, which calls the file `name`.
    """
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DamagedData(f"{name}: an IDX file begins with two zero bytes, a type and a rank, but got {magic.hex()!r}")
    code, rank = magic[2], magic[3]
    if code not in TYPES:
        known = ", ".join(f"{known:#04x}" for known in TYPES)
        raise DamagedData(f"{name}: the type must be one of {known}, but got {code:#04x}")
    sizes = stream.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DamagedData(f"{name}: {rank} sizes of 4 bytes must follow the magic number, but got {len(sizes)} bytes")
    return np.dtype(TYPES[code]), struct.unpack(f">{rank}I", sizes)


def _read_array(path: Path, stream: IO[bytes]) -> np.ndarray[Any, Any]:
    dtype, shape = read_header(path.name, stream)
    expected = math.prod(shape) * dtype.itemsize
    items = bytearray()
    # In pieces and no further than one past the end: a wrong size in the header must not allocate its own measure.
    while len(items) <= expected and (chunk := stream.read(CHUNK)):
        items += chunk
    if len(items) != expected:
        got = f"more than {expected}" if len(items) > expected else len(items)
        raise DamagedData(f"{path.name}: shape {shape} takes {expected} bytes, but got {got}")
    return np.frombuffer(items, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
