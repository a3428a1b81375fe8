"""The examples, run as a user runs them, against a real service."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.serving import Service, environment, serving, wait_for

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("examples") / "data") as service:
        yield service


def worker(service: Service, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / "forest.py"), "--worker", name]
    env = {**environment(service.data_dir, TUNER_URL=service.url), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def test_a_forest_is_tuned_by_workers_that_are_killed(service: Service) -> None:
    """Two are killed in the middle of their trials. One comes back under its name and takes its own up; the other stays away,
    and its trial goes to whoever is there when the lease has ended. Every trial is told once."""
    spec = runpy.run_path(str(EXAMPLES / "forest.py"))["SPEC"]
    small = {**spec["search_space"], "trees": {"type": "int", "low": 5, "high": 40, "log": True}}
    # The workers find it made.
    service.post("/v1/studies", {**spec, "search_space": small, "lease_seconds": 5, "budget": {"n_trials": 8}})
    workers = [worker(service, name) for name in ("one", "two")]
    held = wait_for(lambda: caught(service, workers), "both at work, after some trials")
    for killed in workers:
        killed.kill()
        killed.communicate()
    again = worker(service, "one")
    output = again.communicate(timeout=200)[0]
    assert again.returncode == 0
    assert "the best of all: 0.9" in output
    status = wait_for(lambda: (s := service.get("/v1/studies/forest"))["state"] == "succeeded" and s, "the study ends")
    assert status["trials"]["complete"] == 8
    trials = [service.get(f"/v1/studies/forest/trials/{number}") for number in held]
    assert [trial["state"] for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert "lease_ended" in [attempt["outcome"] for trial in trials for attempt in trial["history"]]


def caught(service: Service, workers: list[subprocess.Popen[str]]) -> list[int]:
    """The trials of the two workers, which are stopped in the midst of them; empty where one of them was between two trials."""
    if (service.get("/v1/studies/forest"))["trials"]["complete"] < 2:
        return []
    for process in workers:
        process.send_signal(signal.SIGSTOP)
    held = [trial["number"] for trial in service.get("/v1/studies/forest/trials?state=RUNNING")["items"]]
    if len(held) == len(workers):
        return held
    for process in workers:
        process.send_signal(signal.SIGCONT)
    return []


def test_two_numbers_are_tuned_from_the_shell(service: Service) -> None:
    """The script ends by itself, with the study's budget spent and its best told."""
    if not (shutil.which("jq") and shutil.which("curl")):
        missing("jq", "jq and curl are not installed")
    env = {**os.environ, **environment(service.data_dir, TUNER_URL=service.url)}
    ran = subprocess.run(["sh", EXAMPLES / "quadratic.sh"], env=env, capture_output=True, text=True, timeout=150)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("trial ") == 15
    assert '"number":' in ran.stdout.splitlines()[-1]
    assert service.get("/v1/studies/quadratic")["trials"]["complete"] == 15
