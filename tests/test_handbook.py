"""docs/api.md, as a reader would type it."""

import os
import re
import shutil
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import missing
from tests.receiver import SECRET
from tests.serving import Service, environment, serving
from tests.test_estimates import timed
from tuner.client import Client
from tuner.settings import Settings
from tuner.store import timings
from tuner.store.database import open_database, writing

HANDBOOK = Path(__file__).parents[1] / "docs" / "api.md"

PRELUDE = """
set -eu
curl() {
  command curl --silent --show-error --fail-with-body --header "Authorization: Bearer $TUNER_TOKEN" "$@" && return
  [ $? = 28 ] || { echo "refused: curl $*" >&2; return 22; }  # 28: a stream's --max-time
}
"""

MAY_WAIT = ("/readyz", "/v1/estimates")
"""They answer 503 until they can answer."""

Asked = dict[tuple[str, str], set[int]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A guarded service that sends webhooks."""
    folder = tmp_path_factory.mktemp("handbook")
    (folder / "secret").write_text(SECRET)
    settings = Settings(data_dir=folder / "data")
    with Client.in_process(settings) as client:
        token = client.create_token("ops", "operator").token
    engine = open_database(settings.database_url)
    with writing(engine) as connection:  # what a runner times when it is asked for the first estimate
        timings.request(connection, socket.gethostname())
        timings.finish(connection, socket.gethostname(), timed())
    engine.dispose()
    with serving(
        folder / "data",
        token=token,
        TUNER_WEBHOOK_HOSTS="hooks.example.com",
        TUNER_WEBHOOK_SECRET_FILE=str(folder / "secret"),
    ) as service:
        yield service


@pytest.fixture(scope="module")
def asked(service: Service) -> Asked:
    """The statuses that each operation has answered to the whole handbook, typed from top to bottom."""
    if not (shutil.which("jq") and shutil.which("curl")):
        missing("jq", "jq and curl are not installed")
    blocks = re.findall(r"^```sh\n(.*?)^```", HANDBOOK.read_text(), re.DOTALL | re.MULTILINE)
    script = PRELUDE + "".join(blocks).replace("localhost:8000", service.url.removeprefix("http://"))
    bearer = service.headers["Authorization"]
    env = {**environment(service.data_dir, TUNER_TOKEN=bearer.removeprefix("Bearer ")), "PATH": os.environ["PATH"]}
    folder = service.data_dir.parent
    ran = subprocess.run(["sh", "-c", script], env=env, cwd=folder, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, f"{ran.stderr}\n{ran.stdout[-2000:]}"
    found: Asked = defaultdict(set)
    metrics = httpx.get(f"{service.url}/metrics", headers=service.headers).text
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "tuner_http_requests_total":
                labels = sample.labels
                found[labels["method"], labels["route"]].add(int(labels["status"]))
    return found


def test_every_call_is_in_the_handbook(asked: Asked, service: Service) -> None:
    """By the service's own count of what was asked, and with success."""
    paths = httpx.get(f"{service.url}/openapi.json", headers=service.headers).json()["paths"]
    documented = {(verb.upper(), path) for path, verbs in paths.items() for verb in verbs}
    assert {call for call in documented if not any(status < 300 for status in asked[call])} == set()


def test_nothing_in_the_handbook_is_refused(asked: Asked) -> None:
    """Whatever a reader types there, and in that order, is answered with success."""
    statuses = {call: {status for status in found if status >= 300 and status != 304} for call, found in asked.items()}
    assert {call: refused for call, refused in statuses.items() if refused and call[1] not in MAY_WAIT} == {}
