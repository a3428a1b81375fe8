"""Which arrays the files of an upload hold: the four IDX files of MNIST's kind, or one .npz. No name in them becomes a path."""

import gzip
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, cast

from tuner.data import idx, npy
from tuner.data.foreign_array import ForeignArray, reporting_damage
from tuner.errors import DamagedData, InvalidInput

ZIP_MAGIC = b"PK"
NPY_MAGIC = b"\x93NUMPY"

MEMBERS = {
    "x_train": "train_images",
    "y_train": "train_labels",
    "x_test": "test_images",
    "y_test": "test_labels",
}
"""The parts of a data set by their names in a .npz."""

MAX_FILES = 4
MAX_DIRECTORY = 4096
"""Bytes of a zip's central directory, which its reader takes whole; that of four members has 200 to 300."""


@dataclass(frozen=True)
class UploadedFile:
    """A file as it was sent; `content` can be sought in. `name` tells train from test, and is used for nothing else."""

    name: str
    content: IO[bytes]


@contextmanager
def finding_arrays(files: Sequence[UploadedFile]) -> Iterator[dict[str, ForeignArray]]:
    """The arrays by part (train_images, train_labels, and test_images, test_labels or neither), readable within the block.

    Raises InvalidInput where files are missing, doubled, or of neither kind; DamagedData where one cannot be read.
    """
    if not files:
        raise _refused("an upload must hold a file, but got none")
    for file in files:
        _check_name(file.name)
    zips = [file for file in files if _begins_with(file, ZIP_MAGIC)]
    if zips and len(files) > 1:
        raise _refused(f"a .npz must come alone, but {zips[0].name!r} came with {len(files) - 1} more")
    if zips:
        with _opened(zips[0]) as archive:
            yield _complete(_members(zips[0].name, archive))
    else:
        yield _complete(_idx_arrays(files))


def _complete(arrays: dict[str, ForeignArray]) -> dict[str, ForeignArray]:
    """Raises InvalidInput where a part is not there that must be."""
    needed = list(MEMBERS.values())[: 4 if arrays.keys() & {"test_images", "test_labels"} else 2]
    if missing := [part for part in needed if part not in arrays]:
        rule = "there must be images and labels to train on, and images and labels to test on or neither"
        raise _refused(f"{rule}, but got no {' and no '.join(missing).replace('_', ' ')}")
    return arrays


def _idx_arrays(files: Sequence[UploadedFile]) -> dict[str, ForeignArray]:
    arrays: dict[str, ForeignArray] = {}
    names: dict[str, str] = {}
    for file in files:
        if _begins_with(file, NPY_MAGIC):
            raise _refused(f"files must be IDX or one .npz, but {file.name!r} is a single .npy")
        array = _idx_array(file)
        part = f"{_half(file.name)}_{'labels' if len(array.shape) == 1 else 'images'}"
        if part in arrays:
            what = part.replace("_", " ")
            raise _refused(f"each part must come once, but {names[part]!r} and {file.name!r} are both {what}")
        arrays[part], names[part] = array, file.name
    return arrays


def _idx_array(file: UploadedFile) -> ForeignArray:
    zipped = _begins_with(file, idx.GZIP_MAGIC)

    @contextmanager
    def open_items() -> Iterator[IO[bytes]]:
        file.content.seek(0)
        if not zipped:
            idx.read_header(file.name, file.content)
            yield file.content
            return
        with gzip.GzipFile(fileobj=file.content) as unzipped:
            stream = cast(IO[bytes], unzipped)
            idx.read_header(file.name, stream)
            yield stream

    file.content.seek(0)
    with reporting_damage(file.name):
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=file.content)) if zipped else file.content
        dtype, shape = idx.read_header(file.name, stream)
    return ForeignArray(file.name, dtype, shape, open_items)


def _half(name: str) -> str:
    """`train` or `test`, by the file's name."""
    lower = name.lower()
    train, test = "train" in lower, "t10k" in lower or "test" in lower
    if train == test:
        rule = "the name of an IDX file must say `train`, or `t10k` or `test`"
        raise _refused(f"{rule}, but {name!r} says {'both' if train else 'neither'}")
    return "train" if train else "test"


def _opened(file: UploadedFile) -> zipfile.ZipFile:
    _check_directory(file)
    with reporting_damage(file.name):
        return zipfile.ZipFile(file.content)


def _check_directory(file: UploadedFile) -> None:
    """Raises DamagedData where the central directory is not small, before the reader takes it into memory.

    The archive must end as numpy writes it, with a record of 22 bytes and no comment: then the reader looks at no other record.
    """
    end = file.content.seek(0, 2)
    file.content.seek(max(0, end - 42))
    tail = file.content.read()
    if len(tail) < 22 or tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise DamagedData(f"{file.name}: a .npz must end with a zip archive's directory and no comment")
    if tail[:4] == b"PK\6\7":
        raise DamagedData(f"{file.name}: a .npz of this size needs no directory of 64 bits, but has one")
    members, size = struct.unpack("<HI", tail[-12:-6])
    if members > len(MEMBERS) or size > MAX_DIRECTORY:
        rule = f"a .npz may hold {', '.join(MEMBERS)}, whose directory takes at most {MAX_DIRECTORY} bytes"
        raise DamagedData(f"{file.name}: {rule}, but got {members} members in {size} bytes")
    file.content.seek(0)


def _members(name: str, archive: zipfile.ZipFile) -> dict[str, ForeignArray]:
    arrays: dict[str, ForeignArray] = {}
    for member in archive.infolist():
        part = MEMBERS.get(member.filename.removesuffix(".npy"))
        if part is None or not member.filename.endswith(".npy"):
            raise _refused(f"{name} may hold {', '.join(MEMBERS)}, but got {member.filename[:80]!r}")
        if part in arrays:
            raise _refused(f"{name}: each array must come once, but {member.filename!r} comes twice")
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refused(f"{name}: {member.filename} must be stored or deflated, and not encrypted")
        arrays[part] = _member(archive, member)
    return arrays


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ForeignArray:
    name = member.filename.removesuffix(".npy")

    @contextmanager
    def open_items() -> Iterator[IO[bytes]]:
        with archive.open(member) as stream:
            npy.read_header(name, stream)
            yield stream

    with reporting_damage(name), archive.open(member) as stream:
        dtype, shape = npy.read_header(name, stream)
    return ForeignArray(name, dtype, shape, open_items)


def _check_name(name: str) -> None:
    if not name or len(name) > 255 or not name.isprintable() or PurePosixPath(name).name != name or "\\" in name:
        raise _refused(f"a file's name must be 1 to 255 printable characters and no path, but got {name[:80]!r}")


def _begins_with(file: UploadedFile, magic: bytes) -> bool:
    file.content.seek(0)
    return file.content.read(len(magic)) == magic


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, ("files",))
