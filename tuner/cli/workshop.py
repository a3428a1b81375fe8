"""A runner of one's own, where no service works on the data folder."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tuner.cli.children import work_on_jobs
from tuner.cli.ownership import Ownership
from tuner.cli.supervisor import Role, Supervisor
from tuner.settings import Settings


class Workshop:
    """A context at whose end the runner, if there was one, and the data folder are given up."""

    def __init__(self, settings: Settings) -> None:
        self._ownership = Ownership(settings, "`tuner run`")
        self._runner = Role("runner", work_on_jobs, (settings,))
        self._closing = ExitStack()
        self._open = False

    def __enter__(self) -> Self:
        self._closing.callback(self._ownership.release)
        self.open_if_free()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.close()

    def open_if_free(self) -> None:
        """Own the folder and start the runner, if nobody else owns it; to be asked again, since an owner may leave."""
        if not self._open and self._ownership.take():
            self._open = True
            self._closing.enter_context(Supervisor(self._runner))
