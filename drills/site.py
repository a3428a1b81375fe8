"""Where a drill is done: its folder, its services, its random numbers, its record, and what was found."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import psutil
from sqlalchemy import text

from drills.audit import audit
from drills.finding import Finding, Kind
from drills.record import Record, Watch, open_read_only
from drills.service import Service, wait_until
from drills.studies import Spec

GONE_SECONDS = 3.0
"""So long the processes of a service that was killed may live on."""

ENDED = ("succeeded", "failed", "cancelled")

UNFINISHED_JOBS = "SELECT count(*) FROM tuner_jobs WHERE state IN ('queued', 'running', 'paused')"
EVENTS = "SELECT count(*) FROM tuner_events"


class Site:
    """`say` has one line for all that happens. On SQLite, unless `database_url` is set before the first service is made."""

    def __init__(self, folder: Path, seed: str, short: bool, say: Callable[[str], None]) -> None:
        self.folder, self.random, self.short, self.say = folder, Random(seed), short, say
        self.data_dir = folder / "data"
        self.database_url = f"sqlite:///{self.data_dir / 'tuner.db'}"
        self.services: list[Service] = []
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.faults = 0
        self._slowest_end = 0.0
        self.closing = ExitStack()
        """What is given back when the drill is over."""
        self._watch: Watch | None = None

    def serve(self, name: str = "serve", settings: Mapping[str, str] | None = None) -> Service:
        """A service that is ready. From the first one on, the record is kept."""
        service = Service(
            name, self.data_dir, self.folder, {"TUNER_DATABASE_URL": self.database_url, **(settings or {})}
        )
        self.services.append(service)
        service.start()
        if self._watch is None:
            self.engine = open_read_only(self.database_url)
            self.record = Record(self.engine)
            self._watch = Watch(self.record, lambda: list(self.services))
            self._watch.start()
        return service

    def fault(self, what: str) -> None:
        self.faults += 1
        self.say(f"{self.faults:3} {what}")

    def find(self, kind: Kind, what: str) -> None:
        self.findings.append(Finding(kind, what))
        self.say(f"    FOUND ({kind}): {what}")

    def kill(self, service: Service) -> None:
        """kill -9 of the service's first process; nothing else of it may live on."""
        service.kill()
        self._slowest_end = max(self._slowest_end, wait_until_gone([service]))
        for left in service.sweep():
            self.find("orphan", f"{GONE_SECONDS:g} s after kill -9 of {service.name}: {left}")

    def kill_everything(self, service: Service) -> None:
        """kill -9 of all of its processes, in random order."""
        processes = service.processes()
        self.random.shuffle(processes)
        for process in processes:
            send_kill(process)
        self.kill(service)

    def status(self, study: str) -> dict[str, Any]:
        """From any service that answers."""

        def ask() -> Any:
            return next((s for service in self.services if (s := service.get(f"/v1/studies/{study}"))), None)

        status: dict[str, Any] = wait_until(ask, f"the status of {study}")
        return status

    def unfinished(self, studies: list[Spec]) -> list[Spec]:
        return [spec for spec in studies if self.status(spec["name"])["state"] not in ENDED]

    def wait_for_end(self, studies: list[Spec]) -> None:
        names = ", ".join(spec["name"] for spec in studies)
        wait_until(lambda: not self.unfinished(studies), f"the end of {names}", sign_of_life=self._events)

    def wait_for_all_jobs(self) -> None:
        """Those of schedules, too."""
        wait_until(lambda: self.count(UNFINISHED_JOBS) == 0, "the end of all jobs", sign_of_life=self._events)

    def _events(self) -> int:
        return self.count(EVENTS)

    def count(self, query: str, **values: Any) -> int:
        """The one number that `query` answers."""
        with self.engine.connect() as connection:
            return int(connection.execute(text(query), values).scalar_one())

    def conclude(self) -> None:
        """End the services as a user would, and hold the database against the record."""
        for service in self.services:
            if service.is_up:
                code = service.terminate()
                if code != 0:
                    self.find("other", f"{service.name} must end with code 0 after SIGTERM, but got {code}")
        wait_until_gone(self.services)
        for left in self.sweep():
            self.find("orphan", f"after the end of its service: {left}")
        if self._watch is not None:
            self._watch.stop()
            self.record.look()
            with self.engine.connect() as connection:
                for finding in [*self.record.findings(), *audit(connection, self.data_dir / "models")]:
                    self.find(finding.kind, finding.what)
            self.notes.append(f"{len(self.record)} trials")
        if self._slowest_end:
            self.notes.append(f"all processes gone {self._slowest_end:.1f} s after kill -9 at the latest")

    def sweep(self) -> list[str]:
        """Nothing of the services is left; answers what had to be killed."""
        return [left for service in self.services for left in service.sweep()]


def wait_until_gone(services: list[Service]) -> float:
    """Returns when no process of the services is left, or GONE_SECONDS have passed; answers the seconds."""
    began = time.monotonic()
    while any(service.processes() for service in services) and time.monotonic() - began < GONE_SECONDS:
        time.sleep(0.02)
    return time.monotonic() - began


def send_kill(process: psutil.Process) -> bool:
    """Whether there was something to kill."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
