"""A `tuner serve` as a user starts it: a process of its own, on a free port and a data folder."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.mnist import give_mnist

TUNER = Path(sys.executable).with_name("tuner")
TINY: dict[str, Any] = {
    "name": "tiny",
    "subset": {"train": 500, "validation": 200, "epochs": 1},
    "budget": {"n_trials": 4},
    "promotion": None,
}
"""A study of a second."""


def small_nets(name: str, trials: int) -> dict[str, Any]:
    """Small nets, none of which diverges; a fifth of a second a trial."""
    space = {
        "depth": 1,
        "width": 32,
        "activation": "relu",
        "loss": "cross_entropy",
        "optimizer": "adam",
        "shift_pixels": 0,
        "rotate_degrees": 0,
        "zoom": 0,
        "batch_norm": False,
    }
    subset = {"train": 3000, "validation": 500, "epochs": 2}
    budget = {"n_trials": trials}
    return {**TINY, "name": name, "search_space": space, "subset": subset, "budget": budget, "pruner": {"kind": "none"}}


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """This process's, without what a developer has set for a service of their own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TUNER_")}
    return {**clean, "TUNER_DATA_DIR": str(data_dir), **more}


def tuner(*arguments: str, data_dir: Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """`tuner …`, run to its end."""
    return subprocess.run(
        [TUNER, *arguments],
        env=environment(data_dir, **more),
        cwd=data_dir.parent,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    """The first true value of `condition`, which is asked ever more seldom."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(pause)
        pause = min(0.15, 1.3 * pause)
    return value


class Service:
    """A running `tuner serve`; `log` is what it has written. What is asked of it, is asked with `token`, if there is one."""

    def __init__(self, data_dir: Path, port: int, *options: str, token: str | None = None, **more: str) -> None:
        self.data_dir, self.url = data_dir, f"http://127.0.0.1:{port}"
        self.headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        self._log = data_dir.parent / f"serve-{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [TUNER, "serve", *options],
                env=environment(data_dir, TUNER_PORT=str(port), **more),
                cwd=data_dir.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str) -> Any:
        """The answer's JSON, or None where there was no answer or a refusal."""
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{self.url}{path}", headers=self.headers), timeout=60
            ) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def pid_of(self, role: str) -> int:
        """The newest process of that role, by the log."""
        return int(re.findall(rf"the {role} is process (\d+)", self.log)[-1])

    def family(self) -> list[psutil.Process]:
        """The service's process and every one below it."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def serving(
    data_dir: Path, *options: str, port: int | None = None, token: str | None = None, **more: str
) -> Iterator[Service]:
    """A service that is ready, with `more` in its environment; at the end it is terminated, or whatever is left of it killed."""
    give_mnist(data_dir / "datasets")
    service = Service(data_dir, port or free_port(), *options, token=token, **more)
    try:
        wait_for(lambda: service.get("/readyz") or service.process.poll() is not None, "ready")
        assert service.process.poll() is None, service.log
        yield service
    finally:
        family = service.family() if service.process.poll() is None else []
        service.process.terminate()
        psutil.wait_procs(family, timeout=60)
        for left in alive(family):
            left.kill()
        service.process.wait()
