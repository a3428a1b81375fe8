"""Who works on a data folder. On SQLite it is one `tuner serve` or `tuner run` at a time; the lock goes with its process."""

import contextlib
import os
from collections.abc import Iterator

from filelock import FileLock, Timeout

from tuner.errors import Conflict, Unavailable
from tuner.settings import Settings


class Ownership:
    """Not taken yet. On another database than SQLite any number may work, and taking always succeeds."""

    def __init__(self, settings: Settings, who: str) -> None:
        self._folder, self._who = settings.data_dir, who
        self._lock = FileLock(self._folder / "serve.lock") if settings.on_sqlite else None
        self._note = self._folder / "serve.owner"  # beside the lock file, which every attempt to lock it empties
        self.taken = False

    def take(self) -> bool:
        """Whether the folder is ours now; it is made if need be. Raises Unavailable where it cannot be written."""
        if self.taken:
            return True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._lock is not None:
                self._lock.acquire(blocking=False)
                self._note.write_text(f"process {os.getpid()}, {self._who}\n", encoding="utf-8")
        except Timeout:
            return False
        except OSError as error:
            raise Unavailable(
                f"the data folder must be writable, but {self._folder} is not: {error.strerror or error}"
            ) from error
        self.taken = True
        return True

    def owner(self) -> str:
        """Who has it, in words."""
        with contextlib.suppress(OSError):
            return self._note.read_text(encoding="utf-8").strip()
        return "another process"

    def release(self) -> None:
        if self.taken and self._lock is not None:
            self._note.unlink(missing_ok=True)
            self._lock.release()
        self.taken = False


@contextlib.contextmanager
def owning(settings: Settings, who: str) -> Iterator[None]:
    """The data folder is ours for the block. Raises Conflict, naming the owner, where it has another one."""
    ownership = Ownership(settings, who)
    if not ownership.take():
        raise Conflict(f"one service works on a data folder, but {settings.data_dir} belongs to {ownership.owner()}")
    try:
        yield
    finally:
        ownership.release()
