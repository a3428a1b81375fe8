"""IDX files: what is read, and what is refused."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tuner.data.idx import CHUNK, read_idx
from tuner.data.installation import PACKAGED_MNIST
from tuner.errors import DamagedData

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
WHOLE = b"\0\0\x08\x03" + struct.pack(">3I", 2, 3, 4) + IMAGES.tobytes()
ZIPPED = gzip.compress(WHOLE, mtime=0)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "some-idx"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [WHOLE, ZIPPED], ids=["plain", "gzipped"])
def test_reads_plain_and_gzipped_files(tmp_path: Path, content: bytes) -> None:
    """The magic bytes tell, not the name."""
    assert np.array_equal(read_idx(write(tmp_path, content)), IMAGES)


def test_reads_mnist() -> None:
    """The packaged labels begin as those of LeCun's file do."""
    assert read_idx(PACKAGED_MNIST / "train-labels-idx1-ubyte.gz")[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_reads_every_type_in_native_order(tmp_path: Path, code: int, dtype: str) -> None:
    """All six types of the format are read, and the big-endian ones come out native."""
    values = np.array([1, -2, 100], dtype=dtype) if dtype != ">u1" else np.array([1, 2, 200], dtype)
    read = read_idx(write(tmp_path, bytes([0, 0, code, 1]) + struct.pack(">I", 3) + values.tobytes()))
    assert read.tolist() == values.tolist()
    assert read.dtype.isnative


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "begins with two zero bytes"),
        (b"\0\0\x08", "begins with two zero bytes"),
        (b"GIF89a, not digits", "begins with two zero bytes"),
        (b"\0\0\x0a\x01" + struct.pack(">I", 0), "the type must be one of"),
        (b"\0\0\x08\x03" + struct.pack(">2I", 2, 3), "3 sizes of 4 bytes"),
        (WHOLE[:-1], "takes 24 bytes, but got 23"),
        (WHOLE + b"\0", "takes 24 bytes, but got more than 24"),
        (b"\0\0\x08\x01" + struct.pack(">I", CHUNK) + bytes(CHUNK + 1), f"but got more than {CHUNK}"),
        (b"\0\0\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3) + b"few", "but got 3"),
        (ZIPPED[:-12], "whole gzip stream"),
        (ZIPPED[:10] + b"\xff" * 20, "whole gzip stream"),
        (ZIPPED[:-8] + b"\0" * 8, "whole gzip stream"),
        (gzip.compress(WHOLE[:-1], mtime=0), "takes 24 bytes, but got 23"),
    ],
)
def test_refuses_damage_by_name(tmp_path: Path, content: bytes, rule: str) -> None:
    """Whatever is not exactly one array is refused with the file, the rule and the value; sizes are not believed."""
    with pytest.raises(DamagedData, match=f"some-idx: .*{rule}"):
        read_idx(write(tmp_path, content))
