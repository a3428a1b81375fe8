"""A `tuner serve` as a user starts it, and every process that belongs to it."""

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

from drills.finding import Stuck

TUNER = Path(sys.executable).with_name("tuner")

MARK = "DRILLED_SERVICE"
"""An environment variable: all processes of a service inherit its value, also those whose parent is dead."""

PATIENCE_SECONDS = 240.0
"""What takes longer is stuck; the machine may be busy with other things."""

Role = Literal["worker", "fork server", "runner", "API", "service"]


def wait_until(
    condition: Callable[[], Any],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    sign_of_life: Callable[[], object] = lambda: None,
) -> Any:
    """The first true value of `condition`. Raises Stuck after `seconds` in which the sign of life has not changed."""
    alive, deadline = sign_of_life(), time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            was, alive = alive, sign_of_life()
            if alive == was:
                raise Stuck(f"not within {seconds:.0f} s: {what}")
            deadline = time.monotonic() + seconds
        time.sleep(0.05)
    return value


class Service:
    """It is started, killed and started again on the same port; its log and its name stay."""

    def __init__(self, name: str, data_dir: Path, log_dir: Path, settings: Mapping[str, str]) -> None:
        self.name, self.data_dir = name, data_dir
        self._port, self._mark = free_port(), secrets.token_hex(8)
        self._settings, self._log = dict(settings), log_dir / f"{name}.log"
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=35)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begin = 0

    def start(self) -> None:
        """Returns when the service says that it is ready."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TUNER_")}
        own = {"TUNER_DATA_DIR": str(self.data_dir), "TUNER_PORT": str(self._port), MARK: self._mark}
        with self._log.open("ab") as log:
            self._log_begin = log.tell()
            self._process = subprocess.Popen(
                [TUNER, "serve"],
                env={**clean, **own, **self._settings},
                cwd=self._log.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self.is_ready() or not self.is_up, f"{self.name} is ready")
        if not self.is_up:
            raise Stuck(f"{self.name} did not start: {self.log[-2000:]}")

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Since the last start."""
        return self._log.read_bytes()[self._log_begin :].decode(errors="replace")

    def is_ready(self) -> bool:
        return self.get("/readyz") is not None

    def get(self, path: str) -> Any:
        """The answer's JSON; None where nobody answered, or with a refusal."""
        answer = self.call("GET", path)
        return answer.json() if answer is not None and answer.is_success else None

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response | None:
        """None where nobody answered."""
        try:
            return self._http.request(method, path, json=body)
        except httpx.TransportError:
            return None

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON, asked for until the service can give one: it may be down for a moment.

        A 409 is an answer too where an earlier try got through and only its answer was lost; None then.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        tries = 0
        while True:
            answer = self.call("POST", path, body)
            tries += 1
            if answer is not None and answer.is_success:
                return answer.json()
            if answer is not None and answer.status_code == httpx.codes.CONFLICT and tries > 1:
                return None
            if answer is not None and answer.is_client_error:
                raise Stuck(f"POST {path}: {answer.status_code} {answer.text}")
            if time.monotonic() > deadline:
                raise Stuck(f"POST {path}: {answer.text if answer is not None else 'nobody answers'}")
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """Every living process of this service, whoever its parent is."""
        return [process for process in psutil.process_iter() if _mark_of(process) == self._mark]

    def of_role(self, role: Role) -> list[psutil.Process]:
        """Living processes; the list is empty while the role's process is being replaced."""
        if not self.is_up or self._process is None:
            return []
        if role == "service":
            return _alive([psutil.Process(self._process.pid)])
        if role in ("runner", "API"):
            pids = re.findall(rf"the {role} is process (\d+)", self.log)
            return _alive([process for process in self.processes() if pids and process.pid == int(pids[-1])])
        servers = [p for p in _children(self.of_role("runner")) if "forkserver" in _command_of(p)]
        return _alive(servers if role == "fork server" else _children(servers))

    def kill(self) -> None:
        """kill -9 of the service's first process alone; the others are to end by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self, seconds: float = 30.0) -> int | None:
        """The exit code after SIGTERM; None where it did not end."""
        if self._process is None:
            return None
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def sweep(self) -> list[str]:
        """Kill whatever is left of the service; answers what that was."""
        left = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                left.append(f"{process.pid} {_command_of(process)[:120]}")
                process.kill()
        if self._process is not None:
            self._process.wait()
        return left


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _mark_of(process: psutil.Process) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # it has just ended, or is another user's
        return None


def _command_of(process: psutil.Process) -> str:
    """Empty where the process has ended, or is a zombie that nobody has waited for."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _children(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found += process.children()
    return found


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if _mark_of(process) is not None]
