"""Pause, resume, cancel and edits of the budget, at random moments of every stage."""

import time
from typing import Literal

import httpx
import psutil

from drills import studies
from drills.finding import Stuck
from drills.service import Service, wait_until
from drills.site import ENDED, Site
from drills.undisturbed import compare_trials, compare_with_twins

Action = Literal["pause", "resume", "cancel"]

ACTS_WITHIN_SECONDS = 2.0

STAGES = ("search", "rung", "promotion", "verdict", "ensemble")

AFTERWARDS: dict[Action, tuple[str, ...]] = {
    "pause": ("paused",),
    "resume": ("queued", "running"),
    "cancel": ("cancelled",),
}


def control(site: Site) -> None:
    """Each request acts within 2 s; then no trial is RUNNING and no worker trains. A study that was paused again and again ends
    as one that was left alone."""
    service = site.serve()
    worst: dict[Action, float] = {"pause": 0.0, "cancel": 0.0}
    for turn in [1] if site.short else range(8):
        spec = _promoting(site, turn) if turn % 2 else studies.long(f"controlled-{turn}", site.random)
        stages = ("search", "rung", "promotion") if turn % 2 else ("search", "search", "search")
        service.post("/v1/studies", spec)
        for stage in stages[:-1]:
            _wait_for_a_moment(site, spec["name"], stage)
            worst["pause"] = max(worst["pause"], act(site, service, spec["name"], "pause"))
            _edit(site, service, spec)
            act(site, service, spec["name"], "resume")
        _hesitate(site, service, spec["name"])
        _wait_for_a_moment(site, spec["name"], stages[-1])
        worst["cancel"] = max(worst["cancel"], act(site, service, spec["name"], "cancel"))
    site.notes += [f"worst {action} {seconds:.2f} s" for action, seconds in worst.items()]
    if not site.short:
        _pause_again_and_again(site, service)


def act(site: Site, service: Service, study: str, action: Action) -> float:
    """Seconds until it is so; over 2 s of a pause or a cancel, or a worker that trains on, is a finding."""
    began = time.monotonic()
    service.post(f"/v1/studies/{study}/{action}")

    def done() -> bool:
        status = site.status(study)
        return status["state"] in AFTERWARDS[action] and (action == "resume" or not status["trials"]["running"])

    wait_until(done, f"{action} of {study}")
    seconds = time.monotonic() - began
    if action == "resume":
        return seconds
    if seconds > ACTS_WITHIN_SECONDS:
        site.find("other", f"{action} of {study} must act within {ACTS_WITHIN_SECONDS:g} s, but took {seconds:.2f} s")
    try:
        wait_until(lambda: not any(_is_busy(service) for service in site.services), "idle workers", seconds=10)
    except Stuck:
        site.find("other", f"workers train 10 s after the {action} of {study}, the only study")
    return seconds


def _is_busy(service: Service) -> bool:
    """Whether any worker computes for a tenth of the next half second."""
    workers = service.of_role("worker")
    before = [_cpu_seconds(worker) for worker in workers]
    time.sleep(0.5)
    return any(_cpu_seconds(worker) - was > 0.05 for worker, was in zip(workers, before, strict=True))


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _promoting(site: Site, turn: int) -> studies.Spec:
    """A study that is soon in its later stages, and stays there."""
    return studies.promoting(f"controlled-{turn}", site.random, trials=6, epochs=40)


def _wait_for_a_moment(site: Site, study: str, stage: str) -> None:
    """A random moment of this stage, or of a later one if it is short."""
    later = STAGES[STAGES.index(stage) :]

    def reached() -> bool:
        status = site.status(study)
        return status["state"] == "running" and status["stage"] in later

    wait_until(reached, f"the {stage} of {study}")
    time.sleep(site.random.uniform(0, 2))
    site.fault(f"{study} in its {site.status(study)['stage']}")


def _edit(site: Site, service: Service, spec: studies.Spec) -> None:
    budget = {
        "n_trials": spec["budget"]["n_trials"] + site.random.randrange(3),
        "parallel": site.random.choice([1, 2, None]),
    }
    answer = service.call("PATCH", f"/v1/studies/{spec['name']}", budget)
    if answer is None or not answer.is_success or answer.json()["spec"]["budget"]["n_trials"] != budget["n_trials"]:
        site.find("other", f"PATCH {budget} of {spec['name']}: {answer and answer.text}")


def _hesitate(site: Site, service: Service, study: str) -> None:
    """Requests faster than they can be acted on; some come too late and are refused. In the end the study goes on."""
    for _ in range(6):
        action = site.random.choice(["pause", "resume"])
        answer = service.call("POST", f"/v1/studies/{study}/{action}")
        site.fault(f"{action} at once: {answer and answer.status_code}")
        time.sleep(site.random.uniform(0, 0.3))

    def goes_on() -> bool:
        """A job that runs, and of which no pause is asked, is none that can be resumed."""
        answer = service.call("POST", f"/v1/studies/{study}/resume")
        refused = answer is not None and answer.status_code == httpx.codes.CONFLICT
        return refused and site.status(study)["state"] == "running"

    wait_until(goes_on, f"{study} goes on")


def _pause_again_and_again(site: Site, service: Service) -> None:
    spec = studies.promoting("hesitant", site.random)
    service.post("/v1/studies", spec)
    for _ in range(16):  # no more: an epoch that is always paused in its middle never ends
        time.sleep(site.random.uniform(0.2, 3))
        answer = service.call("POST", f"/v1/studies/{spec['name']}/pause")
        if answer is not None and answer.is_success:
            site.fault(f"{spec['name']} in its {answer.json()['stage']} is paused")
            wait_until(lambda: site.status(spec["name"])["state"] in ("paused", *ENDED), f"{spec['name']} is paused")
            service.call("POST", f"/v1/studies/{spec['name']}/resume")
    site.wait_for_end([spec])
    compare_trials(site)
    compare_with_twins(site, [spec])
