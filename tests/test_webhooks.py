"""Webhooks from the end of a job to a receiver: a real HTTP server, the scheme's own library as its judge of signatures."""

import json
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import Connection, Engine
from standardwebhooks import Webhook

from tests.conftest import wait_until
from tests.receiver import SECRET, receiving
from tests.serving import tuner
from tuner.errors import InvalidInput
from tuner.runner.postman import LAST_SECONDS, POLL_SECONDS, Postman
from tuner.settings import Settings
from tuner.specs.study import StudySpec
from tuner.store import deliveries, jobs, studies
from tuner.store.database import open_database, reading, writing
from tuner.store.deliveries import Delivery
from tuner.webhooks import WebhookRules, sign

OTHER_SECRET = "whsec_" + "b2xkZXIgc2VjcmV0IG9mIHRoZSBzYW1lIG9wZXJhdG9y"


def rules(folder: Path, hosts: str = "127.0.0.1", *secrets: str) -> Settings:
    file = folder / "webhook-secret.txt"
    file.write_text("\n".join(secrets or (SECRET,)))
    return Settings(data_dir=folder / "data", webhook_hosts=hosts, webhook_secret_file=file, parallel=1)


@contextmanager
def carrying(engine: Engine, settings: Settings, pauses: tuple[float, ...] = ()) -> Iterator[None]:
    ending = threading.Event()
    thread = threading.Thread(target=Postman(engine, WebhookRules(settings), ending, pauses).work)
    thread.start()
    yield
    ending.set()
    thread.join(POLL_SECONDS + LAST_SECONDS + 1)
    assert not thread.is_alive(), "the postman must end when it is asked to, whoever is slow"


def cancelled(engine: Engine, url: str) -> int:
    """The id of a study with a webhook whose job was cancelled before it began."""
    with writing(engine) as connection:
        return cancel_new_study(connection, url)


def cancel_new_study(connection: Connection, url: str) -> int:
    spec = StudySpec.model_validate({"name": "told", "webhook": url})
    job = jobs.find_job(connection, studies.create_study(connection, spec, [], 60))
    assert job is not None
    jobs.pause(connection, job)
    jobs.cancel_all(connection, job.study_id)
    return int(job.study_id)


def delivery_of(engine: Engine, study_id: int) -> Delivery:
    with reading(engine) as connection:
        [delivery] = deliveries.list_deliveries(connection, study_id, None, 10)
    return delivery


def settled(engine: Engine, study_id: int) -> Delivery:
    wait_until(lambda: delivery_of(engine, study_id).next_attempt_at is None, "the delivery is settled", 60)
    return delivery_of(engine, study_id)


def test_the_signature_is_the_schemes() -> None:
    """Of a known message, and with one signature for each secret."""
    keys = [Webhook(secret)._whsecret for secret in (SECRET, OTHER_SECRET)]
    signed = sign(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}').split()
    assert signed[0] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert len(signed) == 2


def test_the_end_of_a_job_is_told_once_it_is_true(engine: Engine, tmp_path: Path) -> None:
    """What is rolled back is not told. What happened is told, signed with each secret, under an id, and then shown as
    delivered; an event that was not asked for is not told."""
    with receiving() as receiver:
        with engine.connect() as connection, connection.begin() as transaction:
            cancel_new_study(connection, receiver.url)
            transaction.rollback()
        study_id = cancelled(engine, receiver.url)
        with carrying(engine, rules(tmp_path, "localhost, 127.0.0.1", SECRET, OTHER_SECRET)):
            delivery = settled(engine, study_id)
        assert (delivery.state, delivery.attempts, delivery.last_error) == ("delivered", 1, None)
        [(message_id, message)] = receiver.messages()
        assert receiver.messages(OTHER_SECRET) == [(message_id, message)]
        assert message_id == delivery.id
        assert (message["type"], message["timestamp"]) == ("job.cancelled", delivery.created_at)
        assert message["data"] | {"study": "told", "state": "cancelled", "stop_reason": "cancelled"} == message["data"]
        assert (message["data"]["best"], message["data"]["promoted"]) == (None, None)


def test_it_is_sent_again_until_it_arrives(engine: Engine, tmp_path: Path) -> None:
    """After an error of the receiver and a redirect, which is not followed, the same message comes again under its id."""
    with receiving(500, 302) as receiver:
        study_id = cancelled(engine, receiver.url)
        with carrying(engine, rules(tmp_path), pauses=(0.01, 0.01)):
            delivery = settled(engine, study_id)
        assert (delivery.state, delivery.attempts) == ("delivered", 3)
        assert receiver.messages() == 3 * [(delivery.id, json.loads(delivery.body))]


@pytest.mark.parametrize(
    ("answers", "hosts", "attempts", "error"),
    [
        ([410], "127.0.0.1", 1, "410 Gone"),
        ([307, 307], "127.0.0.1", 2, "307 Temporary Redirect: a redirect is not followed"),
        ([], "hooks.example.com", 1, "TUNER_WEBHOOK_HOSTS does not allow 127.0.0.1 any more"),
    ],
)
def test_it_is_given_up(
    answers: list[int],
    hosts: str,
    attempts: int,
    error: str,
    tmp_path: Path,
    sqlite: Engine,
) -> None:
    """When the receiver wants no more, when the attempts are used up, or when its host is allowed no more."""
    with receiving(*answers) as receiver:
        study_id = cancelled(sqlite, receiver.url)
        with carrying(sqlite, rules(tmp_path, hosts), pauses=(0.01,)):
            delivery = settled(sqlite, study_id)
        assert (delivery.state, delivery.attempts, delivery.last_error) == ("given_up", attempts, error)
        assert len(receiver.got) == len(answers)


def carry_until_killed(settings: Settings) -> None:
    engine = open_database(settings.database_url)
    Postman(engine, WebhookRules(settings), threading.Event(), timeout_seconds=0.5).work()


def test_a_killed_postman_loses_nothing(tmp_path: Path, sqlite: Engine) -> None:
    """A process that is killed with -9 while it waits for the receiver leaves the delivery pending; when its claim has run out
    the next one sends the same message. One that is asked to end does not wait for the receiver either."""
    with receiving() as receiver:
        receiver.go_on.clear()
        settings = rules(tmp_path)
        study_id = cancelled(sqlite, receiver.url)
        process = multiprocessing.get_context("spawn").Process(target=carry_until_killed, args=(settings,))
        process.start()
        wait_until(lambda: len(receiver.got) == 1, "the first attempt", 60)
        process.kill()
        process.join()
        assert delivery_of(sqlite, study_id).state == "pending"
        with carrying(sqlite, settings):
            wait_until(lambda: len(receiver.got) == 2, "the second attempt", 60)
        assert delivery_of(sqlite, study_id).last_error == "the runner ended during the attempt"
        receiver.go_on.set()
        with carrying(sqlite, settings):
            delivery = settled(sqlite, study_id)
        assert (delivery.state, delivery.attempts) == ("delivered", 3)
        assert receiver.messages() == 3 * [(delivery.id, json.loads(delivery.body))]


@pytest.mark.parametrize(
    ("webhook", "field", "message"),
    [
        ("http://a:b@hook.example/", "url", "no user and password, but got some for 'hook.example'"),
        ("http://a@hook.example/", "url", "no user and password"),
        ("file:///etc/passwd", "url", "'http' or 'https'"),
        ({"url": "http://hook.example", "events": []}, "events", "at least 1 item"),
        ({"url": "http://hook.example", "events": ["x"]}, "events", "job.paused"),
        ({"url": "http://hook.example", "secret": "x"}, "secret", "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_webhook_is_refused(webhook: Any, field: str, message: str) -> None:
    """At its field, naming the rule."""
    with pytest.raises(ValidationError) as refused:
        StudySpec.model_validate({"name": "x", "webhook": webhook})
    error = refused.value.errors()[0]
    assert error["loc"][:2] == ("webhook", field)
    assert message in error["msg"]


@pytest.mark.parametrize(
    ("hosts", "secret", "url", "message"),
    [
        ("", SECRET, "http://hook.example/x", "TUNER_WEBHOOK_HOSTS (none is), but got 'hook.example:80'"),
        ("a.example", SECRET, "https://hook.example/", "(a.example), but got 'hook.example:443'"),
        ("hook.example:443", SECRET, "http://hook.example/", "but got 'hook.example:80'"),
        ("hook.example", SECRET, "http://hook.example.evil/", "but got 'hook.example.evil:80'"),
        ("hook.example", SECRET, "http://evil#@hook.example/", "but got 'evil:80'"),
        ("hook.example", SECRET, "http://evil\\@hook.example/", "but got 'evil:80'"),
        ("127.0.0.1", SECRET, "http://127.1.1.1/", "but got '127.1.1.1:80'"),
        ("hook.example", "", "http://hook.example/", "set TUNER_WEBHOOK_SECRET_FILE"),
        ("hook.example", "whsec_c2hvcnQ=", "http://hook.example/", "24 to 64 bytes, but"),
        ("hook.example", "whsec_*", "http://hook.example/", "no base64"),
    ],
)
def test_what_may_not_be_called_is_refused(hosts: str, secret: str, url: str, message: str, tmp_path: Path) -> None:
    """Naming the rule and the host, and no secret."""
    settings = rules(tmp_path, hosts, secret or "-")
    if not secret:
        settings = settings.model_copy(update={"webhook_secret_file": None})
    with pytest.raises(InvalidInput) as refused:
        WebhookRules(settings).check(StudySpec.model_validate({"name": "x", "webhook": url}).webhook)
    assert message in str(refused.value)
    assert refused.value.loc[0] == "webhook"
    assert not secret or secret not in str(refused.value)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("HOOK.example", "https://hook.EXAMPLE:8443/x?y=z"),
        ("a.example, hook.example:443", "https://hook.example/"),
        ("[::1]:80", "http://[::1]/"),
        ("127.0.0.1", "http://127.1/"),
    ],
)
def test_what_may_be_called(hosts: str, url: str, tmp_path: Path) -> None:
    """A host on all its ports or on one, however it is written."""
    WebhookRules(rules(tmp_path, hosts)).check(StudySpec.model_validate({"name": "x", "webhook": url}).webhook)


@pytest.mark.parametrize("hosts", ["http://a", "a/b", "u@a", "*.a", "a:99999", "::1", "a b"])
def test_hosts_that_are_none_are_refused(hosts: str, tmp_path: Path) -> None:
    """At the start of the service, with the value."""
    with pytest.raises(InvalidInput, match="TUNER_WEBHOOK_HOSTS"):
        WebhookRules(rules(tmp_path, hosts))


def test_a_secret_that_is_none_is_said_before_the_service_starts(tmp_path: Path) -> None:
    """One line that names the file."""
    refused = tuner("serve", data_dir=tmp_path / "data", TUNER_WEBHOOK_SECRET_FILE=str(tmp_path / "nowhere"))
    assert refused.returncode == 1
    assert "TUNER_WEBHOOK_SECRET_FILE must name a readable text file" in refused.stderr


def test_deliveries_are_of_their_study(api: httpx.Client) -> None:
    """404 for the deliveries of a study that is not there, and for one that is not the study's; 422 for a host that is not
    allowed, at its field."""
    api.post("/v1/studies", json={"name": "a"})
    assert api.get("/v1/studies/a/deliveries").json() == {"items": [], "next_cursor": None}
    assert api.get("/v1/studies/b/deliveries").status_code == 404
    assert api.post("/v1/studies/a/deliveries/msg_x/send-again").status_code == 404
    refused = api.post("/v1/studies", json={"name": "b", "webhook": "http://127.0.0.1/"})
    assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (422, ["body", "webhook", "url"])
    assert "TUNER_WEBHOOK_HOSTS" in refused.json()["detail"]
