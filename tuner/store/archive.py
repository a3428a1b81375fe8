"""Archives of `tuner backup`: a tar of plain files, and as its last member a manifest with their sums.

One that was cut off has no manifest, and one that was damaged has other sums; both are refused before a file of it is used.
"""

import hashlib
import io
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, Protocol

from pydantic import Field, ValidationError

from tuner import __version__
from tuner.errors import Conflict, DamagedData, Unavailable
from tuner.specs.spec import Spec
from tuner.store.clock import now

MANIFEST = "manifest.json"
MANIFEST_BYTES = 1 << 28
"""A larger one is none of ours: it would name a million files."""

DATABASES = {"sqlite": "database.sqlite", "postgresql": "database.dump"}
"""The member that holds the database: a file as SQLite has it, or one for pg_restore."""

CHUNK = 1 << 20

_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_NAME = re.compile(rf"database\.(sqlite|dump)|datasets/{_PLAIN}/{_PLAIN}|models/{_PLAIN}(/{_PLAIN})?")
"""Of a member: it leads nowhere but below the data folder, and hides nothing."""


class Member(Spec):
    size: int = Field(ge=0)
    sha256: str


class Contents(Spec):
    database: Literal["sqlite", "postgresql"]
    revision: str = Field(description="of our tables")
    counts: dict[str, int]
    missing: tuple[str, ...] = Field(description="models whose files were not there")


class Manifest(Contents):
    format: Literal[1] = 1
    tuner_version: str
    created_at: str
    files: dict[str, Member]


def write_archive(target: Path, contents: Contents, files: Mapping[str, Path]) -> Manifest:
    """`target` is there, whole, for its owner's eyes alone.

    Raises Conflict where something is there already, Unavailable where it cannot be written.
    """
    check_free(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(partial, "xb", opener=_private) as file:
            manifest = _write(file, contents, files)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target)
    except OSError as error:
        raise Unavailable(f"the backup {target} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def check_free(target: Path) -> None:
    """Raises Conflict where something is at `target`."""
    if target.exists():
        raise Conflict(f"a backup must not replace a file, but {target} is there")


class Archive:
    """One whose every member is what its manifest says."""

    def __init__(self, tar: tarfile.TarFile, manifest: Manifest) -> None:
        self._tar, self.manifest = tar, manifest

    def extract(self, name: str, target: Path) -> None:
        """Write one member to `target`, where nothing is yet. Raises Unavailable where that cannot be done."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _open(self._tar, name) as content, target.open("xb") as file:
                shutil.copyfileobj(content, file, CHUNK)
        except OSError as error:
            raise Unavailable(f"{target} cannot be written: {error.strerror or error}") from error


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The archive, with every sum verified.

    Raises DamagedData where it is none of ours, or not as it was written, Unavailable where it cannot be read.
    """
    with _reading(path):
        tar = tarfile.open(path, "r:")  # noqa: SIM115  # what is done with it meanwhile must not be taken for its reading
    with tar:
        with _reading(path):
            manifest = _read_manifest(path, tar)
            _check_members(path, tar, manifest)
        yield Archive(tar, manifest)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise _damaged(path, f"reading says: {error}") from error
    except OSError as error:
        raise Unavailable(f"the backup {path} cannot be read: {error.strerror or error}") from error


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Summing:
    """A file that notes the sum of what was read of it."""

    def __init__(self, file: _Readable) -> None:
        self._file, self._sum = file, hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        content = self._file.read(size)
        self._sum.update(content)
        return content

    def hexdigest(self) -> str:
        return self._sum.hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(file: IO[bytes], contents: Contents, files: Mapping[str, Path]) -> Manifest:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        members = {}
        for name, path in files.items():
            with path.open("rb") as content:
                members[name] = _add(tar, name, content, os.fstat(content.fileno()).st_size)
        manifest = Manifest(**contents.model_dump(), tuner_version=__version__, created_at=now(), files=members)
        text = manifest.model_dump_json(indent=1).encode()
        _add(tar, MANIFEST, io.BytesIO(text), len(text))
    return manifest


def _add(tar: tarfile.TarFile, name: str, content: _Readable, size: int) -> Member:
    entry, summing = tarfile.TarInfo(name), _Summing(content)
    entry.size, entry.mode = size, 0o600
    tar.addfile(entry, summing)
    return Member(size=size, sha256=summing.hexdigest())


def _read_manifest(path: Path, tar: tarfile.TarFile) -> Manifest:
    last = tar.getmembers()[-1:]
    if not last or last[0].name != MANIFEST or not last[0].isreg() or last[0].size > MANIFEST_BYTES:
        raise _damaged(path, f"its last file is not {MANIFEST}")
    with _open(tar, MANIFEST) as content:
        text = content.read()
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"its manifest is not: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _check_members(path: Path, tar: tarfile.TarFile, manifest: Manifest) -> None:
    members = tar.getmembers()[:-1]
    if sorted(member.name for member in members) != sorted(manifest.files):
        raise _damaged(path, "its files are not those of its manifest")
    databases = [name for name in manifest.files if name in DATABASES.values()]
    if databases != [DATABASES[manifest.database]]:
        raise _damaged(path, f"it must hold one {DATABASES[manifest.database]}, but holds {databases}")
    for member in members:
        if not member.isreg() or member.issparse() or _NAME.fullmatch(member.name) is None:
            raise _damaged(path, f"{member.name!r} is no file of a data folder")
        expected = manifest.files[member.name]
        with _open(tar, member.name) as content:
            summing = _Summing(content)
            while summing.read(CHUNK):
                pass
        found = summing.hexdigest()
        if (member.size, found) != (expected.size, expected.sha256):
            rule = f"must have {expected.size} bytes with the SHA-256 {expected.sha256}"
            raise _damaged(path, f"{member.name} {rule}, but has {member.size} with {found}")


def _open(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    content = tar.extractfile(name)
    assert content is not None, f"{name} was checked to be a file"
    return content


def _damaged(path: Path, why: str) -> DamagedData:
    return DamagedData(f"{path} must be an archive of `tuner backup`, whole and unchanged, but {why}")
