"""The examples, run as a user runs them, against a real service."""

import os
import shutil
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


def test_a_forest_is_tuned_by_workers_of_which_one_is_killed(service: Service) -> None:
    """A worker killed in the middle of a trial comes back under its name and finishes it; every trial is told once."""
    first, second = worker(service, "one"), worker(service, "two")
    wait_for(
        lambda: (service.get("/v1/studies/forest") or {"trials": {"complete": 0}})["trials"]["complete"] >= 3, "work"
    )
    first.kill()
    first.communicate()
    held = [t["number"] for t in service.get("/v1/studies/forest/trials?state=RUNNING")["items"]]
    again = worker(service, "one")
    outputs = [process.communicate(timeout=90)[0] for process in (again, second)]
    assert (again.returncode, second.returncode) == (0, 0)
    assert "the best of all: 0.9" in outputs[0]
    status = wait_for(lambda: (s := service.get("/v1/studies/forest"))["state"] == "succeeded" and s, "the study ends")
    assert status["trials"]["complete"] == 20
    assert all(service.get(f"/v1/studies/forest/trials/{number}")["state"] == "COMPLETE" for number in held)


def test_two_numbers_are_tuned_from_the_shell(service: Service) -> None:
    """The script ends by itself, with the study's budget spent and its best told."""
    if not (shutil.which("jq") and shutil.which("curl")):
        missing("jq", "jq and curl are not installed")
    env = {**os.environ, **environment(service.data_dir, TUNER_URL=service.url)}
    ran = subprocess.run(["sh", EXAMPLES / "quadratic.sh"], env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("trial ") == 15
    assert '"number":' in ran.stdout.splitlines()[-1]
    assert service.get("/v1/studies/quadratic")["trials"]["complete"] == 15
