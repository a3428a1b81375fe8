"""Data sets on their way into the catalogue and out of it.

What is made, or about to be removed, lies in a hidden folder of the root, under a lock that its process holds: what a killed
process has left is known by its lock, and cleared away by the next one that starts.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tuner.errors import Conflict, NotFound

PREFIX = ".staging-"


class _Stage:
    """A hidden folder of our own, until it is left."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.folder = root / f"{PREFIX}{secrets.token_hex(8)}"
        # It may be left by another thread than the one that has made it.
        self._lock = FileLock(_lock_of(self.folder), thread_local=False)
        self._lock.acquire()
        try:
            self.folder.mkdir()
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        _lock_of(self.folder).unlink(missing_ok=True)


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """An empty folder, on the root's disk, that is gone at the end with whatever is in it; for a data set use a folder within.

    Raises OSError where the root cannot be written.
    """
    stage = _Stage(root)
    try:
        yield stage.folder
    finally:
        stage.leave()


def put(folder: Path, root: Path, name: str) -> None:
    """The staged data set in `folder` is the catalogue's `name`, at once and whole. Raises Conflict where there is one."""
    if (root / name).exists():
        raise taken(name)
    try:
        folder.rename(root / name)
    except OSError as error:
        if (root / name).exists():  # of two at once, the other was first
            raise taken(name) from error
        raise


def taken(name: str) -> Conflict:
    return Conflict(f"a data set's name must be free, but {name!r} is taken")


class Removal:
    """A data set that is out of the catalogue, and is then either put back or gone for good."""

    def __init__(self, root: Path, name: str) -> None:
        """Raises NotFound where there is none."""
        self._place, self._stage = root / name, _Stage(root)
        try:
            self._place.rename(self._stage.folder / "removed")
        except FileNotFoundError as error:
            self._stage.leave()
            raise NotFound(f"no data set is named {name!r}") from error

    def finish(self) -> None:
        self._stage.leave()

    def undo(self) -> None:
        (self._stage.folder / "removed").rename(self._place)
        self._stage.leave()


def clear_leftovers(root: Path) -> None:
    """What killed processes have left under `root` is gone; what living ones work on stays."""
    for path in root.glob(f"{PREFIX}*.lock"):
        lock = FileLock(path, blocking=False)
        try:
            with lock:
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        except Timeout:
            continue
        path.unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
