"""SIGSTOP for longer than a lease, then SIGCONT: who has lost its job meanwhile may not write for it any more, and is to go on
with other work. A worker that stands still delays its trial, and no pause."""

import signal
import time
from typing import Any

import psutil
from sqlalchemy import text

from drills import studies
from drills.control import act
from drills.postgres import use_postgres
from drills.service import Service, wait_until
from drills.site import Site
from drills.undisturbed import compare_trials, compare_with_twins

JOB = """
    SELECT id, fence, pid, tuner_jobs.owner AS owner FROM tuner_jobs JOIN studies USING (study_id)
    LEFT JOIN tuner_runners ON tuner_runners.owner = tuner_jobs.owner WHERE study_name = :study
"""
ATTEMPTS = "SELECT * FROM tuner_attempts WHERE job_id = :job AND fence <= :fence ORDER BY id"
CLAIMS = "SELECT count(*) FROM tuner_events WHERE kind = 'job' AND data ->> 'owner' = :owner"


def zombies(site: Site) -> None:
    """Two runners on PostgreSQL: the one with the job stands still, alone or with all of its service."""
    use_postgres(site)
    services = [site.serve(name, {"TUNER_MAX_JOBS": "1"}) for name in ("first", "second")]
    posted = []
    for turn in range(1 if site.short else 3):
        spec = studies.promoting(f"taken-over-{turn}", site.random, trials=8)
        posted.append(spec)
        services[0].post("/v1/studies", spec)
        _let_runner_stand_still(site, services, spec["name"], with_all=turn % 2 == 1)
        site.wait_for_end([spec])
    compare_trials(site)
    if not site.short:
        _let_workers_stand_still(site, services[0])
    compare_with_twins(site, posted[:1])


def _let_runner_stand_still(site: Site, services: list[Service], study: str, with_all: bool) -> None:
    trials = site.random.randrange(1, 7)

    def is_under_way() -> bool:
        status = site.status(study)
        return status["trials"]["complete"] >= trials or status["stage"] in ("rung", "promotion", "verdict", "ensemble")

    wait_until(is_under_way, f"{study} is under way")
    job = _job(site, study)
    zombie = next(s for s in services if job["pid"] in [process.pid for process in s.of_role("runner")])
    stopped = zombie.processes() if with_all else zombie.of_role("runner")
    for process in stopped:
        process.suspend()
    site.fault(f"SIGSTOP of {zombie.name}: {'all of its processes' if with_all else 'its runner'}")
    wait_until(lambda: _job(site, study)["fence"] > job["fence"] and not _open_attempts(site, job), "the take-over")
    written = _attempts(site, job)
    time.sleep(site.random.uniform(0, 3))
    _continue(stopped)
    _must_go_on(site, services, zombie, job["owner"])
    site.wait_for_end([{"name": study}])
    if _attempts(site, job) != written:
        site.find(
            "twice",
            f"{zombie.name} wrote for {study} after its lease was lost: {written} became {_attempts(site, job)}",
        )


def _must_go_on(site: Site, services: list[Service], zombie: Service, owner: str) -> None:
    """With the other runner busy, it is the one that was stopped which takes the next jobs."""
    claims = site.count(CLAIMS, owner=owner)
    others = [studies.searching(f"after-{owner[:6]}-{site.faults}-{i}", site.random, trials=6) for i in range(3)]
    for spec in others:
        services[0].post("/v1/studies", spec)
    wait_until(lambda: site.count(CLAIMS, owner=owner) > claims, f"{zombie.name} takes another job after SIGCONT")
    site.wait_for_end(others)


def _let_workers_stand_still(site: Site, service: Service) -> None:
    """Stopped for some seconds, a worker goes on; stopped for good, it is killed when its study is paused."""
    spec = studies.long("slow-worker", site.random)
    service.post("/v1/studies", spec)
    for _ in range(3):
        worker = _busy_worker(site, spec["name"])
        worker.suspend()
        site.fault(f"SIGSTOP of worker {worker.pid}")
        time.sleep(site.random.uniform(1, 5))
        _continue([worker])
        _busy_worker(site, spec["name"]).suspend()
        site.fault(f"SIGSTOP of a worker, then a pause: {act(site, service, spec['name'], 'pause'):.2f} s")
        act(site, service, spec["name"], "resume")
    act(site, service, spec["name"], "cancel")


def _busy_worker(site: Site, study: str) -> psutil.Process:
    def find() -> psutil.Process | None:
        busy = [
            w for service in site.services for w in service.of_role("worker") if site.status(study)["trials"]["running"]
        ]
        busy = [worker for worker in busy if worker.cpu_percent(0.2) > 20]
        return busy[0] if busy else None

    found: psutil.Process = wait_until(find, f"a worker that trains for {study}")
    return found


def _continue(stopped: list[psutil.Process]) -> None:
    for process in stopped:
        if process.is_running():
            process.send_signal(signal.SIGCONT)


def _job(site: Site, study: str) -> dict[str, Any]:
    with site.engine.connect() as connection:
        return dict(connection.execute(text(JOB), {"study": study}).mappings().one())


def _attempts(site: Site, job: dict[str, Any]) -> list[tuple[object, ...]]:
    with site.engine.connect() as connection:
        rows = connection.execute(text(ATTEMPTS), {"job": job["id"], "fence": job["fence"]})
        return [tuple(row) for row in rows]


def _open_attempts(site: Site, job: dict[str, Any]) -> bool:
    with site.engine.connect() as connection:
        rows = connection.execute(text(ATTEMPTS), {"job": job["id"], "fence": job["fence"]}).mappings()
        return any(row["ended_at"] is None for row in rows)
