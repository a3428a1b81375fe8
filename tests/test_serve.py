"""`tuner serve` as processes: it starts or says why not, mends itself, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import connect
from tests.serving import TUNER, Service, alive, environment, serving, small_nets, tuner, wait_for
from tuner.settings import Settings


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


def watching(service: Service, spec: dict[str, Any]) -> "subprocess.Popen[str]":
    """A `tuner run` at the service's address."""
    spec_file = service.data_dir.parent / f"{spec['name']}.json"
    spec_file.write_text(json.dumps(spec))
    env = environment(service.data_dir.parent / "elsewhere", TUNER_URL=service.url)
    return subprocess.Popen([TUNER, "run", spec_file], env=env, stdout=subprocess.PIPE, text=True)


def finished(status: dict[str, Any]) -> int:
    return int(sum(status["trials"][state] for state in ("complete", "pruned", "fail")))


def test_tells_its_addresses_when_it_is_ready(service: Service) -> None:
    """A service that is up is alive, ready, and has said where."""
    assert service.get("/healthz") == {"status": "ok"}
    wait_for(lambda: f"{service.url}/dashboard" in service.log, "addresses")
    assert f"{service.url}/docs" in service.log


def test_refuses_a_second_service_on_its_folder(service: Service) -> None:
    """One service works on a data folder; the refusal names the folder and the owner's process."""
    second = tuner("serve", "--port", "0", data_dir=service.data_dir)
    assert second.returncode == 1
    assert str(service.data_dir) in second.stderr
    assert f"process {service.process.pid}" in second.stderr


def test_refuses_a_port_in_use(tmp_path: Path) -> None:
    """The refusal names host and port, and the folder is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = tuner("serve", data_dir=tmp_path / "data", TUNER_PORT=str(port))
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in refused.stderr
    assert not (tmp_path / "data" / "tuner.db").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"TUNER_HOST": "0.0.0.0"}, "token"),
        ({"TUNER_HOST": "0.0.0.0", "TUNER_TOKEN_FILE": "/nowhere/token"}, "/nowhere/token"),
        ({"TUNER_PORT": "ninety"}, "TUNER_PORT"),
        ({"TUNER_DATA_DIR": "/proc/nope"}, "/proc/nope"),
        ({"TUNER_DATA_DIR": "/dev/null"}, "/dev/null"),
    ],
)
def test_refuses_settings_it_cannot_serve_with(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    """One line that names the setting or its value, exit code 1, and nothing half-made."""
    refused = tuner("serve", data_dir=tmp_path / "data", **settings)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("role", ["API", "runner"])
def test_replaces_what_was_killed_and_the_job_goes_on(role: str, service: Service) -> None:
    """After kill -9 of the API or the runner, a study still ends with exactly its trials, each under its own number, and
    the `tuner run` that watches it does not notice."""
    name, trials = f"killed-{role}", 24
    with watching(service, small_nets(name, trials)) as watcher:
        wait_for(lambda: (status := service.get(f"/v1/studies/{name}")) and finished(status) >= 2, "two trials")
        killed = service.pid_of(role)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: service.pid_of(role) != killed, "another process", seconds=5)
        told, _ = watcher.communicate(timeout=150)
        assert watcher.returncode == 0
    assert f"Search: {trials} trials ({trials} complete, 0 pruned, 0 failed)" in told
    numbers = [trial["number"] for trial in service.get(f"/v1/studies/{name}/trials")["items"]]
    assert numbers == list(range(trials))


def test_killed_or_terminated_it_leaves_no_process(service: Service) -> None:
    """kill -9: all gone within 3 s, and a start at once, on the same port and folder, goes on with the job. SIGTERM: all
    gone within 5 s, exit code 0, the job given back. It ends the service of the tests before it."""
    service.post("/v1/studies", small_nets("long", 500))
    wait_for(lambda: finished(service.get("/v1/studies/long")) >= 1, "a trial")
    family = service.family()
    assert len(family) >= 5  # the service, the API, the runner, its fork server, a worker
    service.process.kill()
    service.process.wait()
    killed_at = time.monotonic()
    with serving(service.data_dir, port=int(service.url.rpartition(":")[2])) as second:
        wait_for(
            lambda: not alive(family), "the end of every process", seconds=max(0, killed_at + 3 - time.monotonic())
        )
        # The first one's API, as long as it lived, may have been what said "ready" on this port.
        wait_for(lambda: second.get("/readyz"), "the second one's answer")
        before = finished(second.get("/v1/studies/long"))
        wait_for(lambda: finished(second.get("/v1/studies/long")) > before, "another trial")
        family = second.family()
        second.process.terminate()
        assert second.process.wait(timeout=30) == 0
        wait_for(lambda: not alive(family), "the end of every process", seconds=0.5)
    with connect(Settings(data_dir=service.data_dir)) as api:
        assert api.get("/v1/studies/long").json()["state"] == "queued"


def test_the_quickstart_runs_through_rest_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    """`--quickstart` posts the spec that examples/ holds, and shows its way; Ctrl-C, which a terminal sends to every
    process, ends the service in order: exit code 0, no traceback, no process left."""
    with serving(tmp_path / "data", "--quickstart") as service:
        wait_for(lambda: "mnist-quick: search" in service.log, "the quickstart's first trials")
        example = Path(__file__).parents[1] / "examples" / "mnist-quick.json"
        assert service.get("/v1/studies/mnist-quick")["spec"] == json.loads(example.read_text())
        family = service.family()
        os.killpg(service.process.pid, signal.SIGINT)
        assert service.process.wait(timeout=30) == 0
        wait_for(lambda: not alive(family), "the end of every process", seconds=0.5)
        assert "Traceback" not in service.log
