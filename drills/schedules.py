"""Schedules every four seconds, while runners, APIs and whole services are killed: no due time fires twice."""

import time
from typing import Any

from drills import studies
from drills.kills import Killer
from drills.service import Service, wait_until
from drills.site import Site
from drills.studies import Spec

FIRED = "SELECT count(*) FROM tuner_schedule_runs WHERE outcome = 'started'"


def schedules(site: Site) -> None:
    """One schedule that skips while its last study runs, one that queues."""
    service = site.serve()
    for name, overlap in (("skipping", "skip"), ("queueing", "queue")):
        spec = studies.tiny(f"{name}-{{date}}", site.random)
        create(service, name, spec, interval_seconds=4, overlap=overlap)
    killer = Killer(site)
    for _ in range(3 if site.short else 16):
        time.sleep(site.random.uniform(1, 6))
        killer.strike(service)
    fired = count_fired(site)
    wait_until(lambda: count_fired(site) > fired, "a schedule fires after the last kill")
    pause_all(service)
    site.wait_for_all_jobs()
    site.notes.append(f"{count_fired(site)} studies by schedule")


def create(service: Service, name: str, study: Spec, **timing: Any) -> None:
    service.post("/v1/schedules", {"name": name, "study": study, **timing})


def pause_all(service: Service) -> None:
    def pause(name: str) -> bool:
        answer = service.call("PATCH", f"/v1/schedules/{name}", {"paused": True})
        return answer is not None and answer.is_success

    listed = wait_until(lambda: service.get("/v1/schedules"), "the schedules")
    for schedule in listed["items"]:
        wait_until(lambda name=schedule["name"]: pause(name), "a schedule is paused")  # type: ignore[misc]


def count_fired(site: Site) -> int:
    return site.count(FIRED)
