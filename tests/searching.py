"""A service whose jobs run in the test's own process, and what disturbs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.conftest import connect, running, wait_until
from tests.receiver import SECRET
from tuner.settings import Settings

ENDED = ("succeeded", "failed", "cancelled")
SMALL: dict[str, Any] = {
    "subset": {"train": 500, "validation": 200, "epochs": 2},
    "search_space": {"depth": {"low": 1, "high": 2}, "width": {"low": 16, "high": 128}},
    "promotion": None,
}
LONG = {"train": 40_000, "validation": 2000, "epochs": 3}
"""A subset whose trials run long enough to be disturbed."""


class Service:
    """A client of the app, with a runner beside it."""

    def __init__(self, settings: Settings, api: httpx.Client) -> None:
        self.settings, self.api = settings, api

    def post(self, name: str, **changes: Any) -> None:
        answer = self.api.post("/v1/studies", json={"name": name, **SMALL, **changes})
        assert answer.status_code == 202, answer.text

    def get(self, path: str) -> Any:
        return self.api.get(path).json()

    def status(self, name: str) -> Any:
        return self.get(f"/v1/studies/{name}")

    def trials(self, name: str) -> list[Any]:
        items: list[Any] = self.get(f"/v1/studies/{name}/trials?limit=500")["items"]
        return items

    def finish(self, name: str, seconds: float = 180) -> Any:
        wait_until(lambda: self.status(name)["state"] in ENDED, f"{name} has ended", seconds)
        return self.status(name)

    def finished(self, name: str, seconds: float = 180, **changes: Any) -> Any:
        self.post(name, **changes)
        return self.finish(name, seconds)


@contextmanager
def open_service(folder: Path) -> Iterator[Service]:
    """Of two workers, which may send webhooks to this machine."""
    secret = folder / "webhook-secret.txt"
    secret.write_text(SECRET)
    settings = Settings(data_dir=folder, parallel=2, webhook_hosts="127.0.0.1", webhook_secret_file=secret)
    with connect(settings) as api, running(settings):
        yield Service(settings, api)


def ended(service: Service, name: str) -> int:
    counts = service.status(name)["trials"]
    return int(counts["complete"] + counts["pruned"])


def kill_while_it_trains(service: Service, name: str) -> None:
    """Kill every worker whenever the study's one trial trains, until the study has ended.

    The killed worker's trial may go to the next one before that is killed, too: so a round may cost two attempts.
    """

    def over() -> bool:
        return service.status(name)["state"] in ENDED

    while not over():
        wait_until(lambda: trains(service, name) or over(), f"the trial of {name} trains")
        for worker in workers():
            worker.kill()
        wait_until(lambda: not trains(service, name) or over(), f"the trial of {name} is interrupted")


def trains(service: Service, name: str) -> bool:
    """Whether the study's one trial has a worker, which it may wait for long after its attempt has begun: its curve tells."""
    trial = service.api.get(f"/v1/studies/{name}/trials/0")
    return trial.status_code == 200 and trial.json()["state"] == "RUNNING" and bool(trial.json()["curves"])


def workers() -> list[psutil.Process]:
    """The worker processes of this process's executor: the fork server's children."""
    return [grandchild for child in psutil.Process().children() for grandchild in child.children()]
