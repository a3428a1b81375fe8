"""A wall clock of a service's own, which can be set while it runs.

Not libfaketime's, which also breaks sleeps that have nothing to do with the wall clock: docs/decisions.md.
"""

import shutil
import struct
import subprocess
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

from drills.finding import Missing
from drills.service import Service, wait_until

SOURCE = Path(__file__).with_suffix(".c")
PRECISION_SECONDS = 60
"""Of what a busy service says of its time; far less than any jump."""


class WallClock:
    """One that is right, until it is set. Raises Missing without a C compiler."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file, self._library = folder / name, folder / f"{name}.so"
        self._write(0)
        compiler = shutil.which("cc")
        if compiler is None:
            raise Missing("cc", "there is no C compiler (cc)")
        subprocess.run(
            [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", self._library, SOURCE], check=True
        )

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a service that is to have this clock."""
        return {"LD_PRELOAD": str(self._library), "DRILLED_CLOCK": str(self._file)}

    def set(self, seconds_ahead: int, service: Service) -> None:
        """Returns when `service` tells the new time."""
        self._write(seconds_ahead)

        def is_told() -> bool:
            answer = service.call("GET", "/healthz")
            if answer is None:
                return False
            told = parsedate_to_datetime(answer.headers["date"]).timestamp()
            return abs(told - time.time() - seconds_ahead) < PRECISION_SECONDS

        wait_until(is_told, f"the clock of {service.name} is {seconds_ahead:+} s wrong")

    def _write(self, seconds_ahead: int) -> None:
        """In place: the running processes have mapped it."""
        self._file.touch()
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds_ahead))
