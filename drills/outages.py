"""The database cannot be used for a while: PostgreSQL stopped, SQLite locked. Work waits and goes on."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from drills import studies
from drills.postgres import use_postgres
from drills.service import Service
from drills.site import Site
from drills.studies import Spec
from drills.undisturbed import compare_trials, compare_with_twins

ANSWER_SECONDS = 10.0
"""So long an API without its database may take to say so."""


def postgres_stopped(site: Site) -> None:
    """Two services on one PostgreSQL server, which is stopped at once (`-m immediate`) and started again, several times."""
    server = use_postgres(site)
    services = [site.serve(name, {"TUNER_MAX_JOBS": "2"}) for name in ("first", "second")]
    posted = _post(site, services[0])
    for _ in range(1 if site.short else 6):
        time.sleep(site.random.uniform(1, 5))
        seconds = site.random.uniform(2, 3 if site.short else 12)
        server.stop()
        site.fault(f"PostgreSQL is stopped for {seconds:.1f} s")
        for service in services:
            _must_say_so(site, service)
        time.sleep(seconds)
        server.start()
        posted += _post(site, services[0]) if not site.unfinished(posted) else []
    _end(site, posted)


def sqlite_locked(site: Site) -> None:
    """Another program holds SQLite's write lock, for 20 s and for longer than the service's writers wait at a time (30 s)."""
    service = site.serve()
    posted = _post(site, service)
    for seconds in [4.0] if site.short else [20.0, 20.0, 36.0]:
        time.sleep(site.random.uniform(1, 4))
        with _write_lock(site):
            site.fault(f"SQLite is locked for {seconds:g} s")
            time.sleep(seconds / 2)
            if service.get("/v1/studies") is None:
                site.find("other", "readers must not wait for the lock, but GET /v1/studies was not answered with 200")
            time.sleep(seconds / 2)
        posted += _post(site, service) if not site.unfinished(posted) else []
    _end(site, posted)


def _post(site: Site, service: Service) -> list[Spec]:
    """One study with every stage, one search."""
    at = site.faults
    trials = 16 if site.short else 60
    posted = [
        studies.promoting(f"staged-{at}", site.random, epochs=1 if site.short else 3),
        studies.searching(f"search-{at}", site.random, trials=trials),
    ]
    for spec in posted:
        service.post("/v1/studies", spec)
    return posted


def _end(site: Site, posted: list[Spec]) -> None:
    site.wait_for_end(posted)
    compare_trials(site)
    if not site.short:
        compare_with_twins(site, [spec for spec in posted if spec["promotion"]][:2])


def _must_say_so(site: Site, service: Service) -> None:
    began = time.monotonic()
    answer = service.call("GET", "/v1/studies")
    seconds = time.monotonic() - began
    status = None if answer is None else answer.status_code
    if status != httpx.codes.SERVICE_UNAVAILABLE or seconds > ANSWER_SECONDS:
        site.find(
            "other", f"without its database {service.name} must answer 503, but answered {status} in {seconds:.1f} s"
        )


@contextmanager
def _write_lock(site: Site) -> Iterator[None]:
    connection = sqlite3.connect(site.data_dir / "tuner.db", timeout=60, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()
