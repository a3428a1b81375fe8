"""Secrets of the service's own: none of them is in a log, in an error or in an answer."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from tests.postgres_server import postgres_database
from tests.receiver import SECRET, receiving
from tests.serving import TINY, serving, wait_for
from tuner.errors import InvalidInput, Unavailable
from tuner.store.database import is_there, open_database, reading

PASSWORD = "pa55-of-the-database"


@pytest.mark.postgres
def test_a_service_tells_no_secret(postgres: str, tmp_path: Path) -> None:
    """At the level DEBUG, with the database's password in its URL, a token in a file and a webhook that was signed and sent: what
    it has logged, and what it answers of studies, webhooks, metrics and changes, holds none of the three."""
    files = {name: tmp_path / name for name in ("token", "webhook-secret")}
    token = "a-token-that-nobody-guesses"
    files["token"].write_text(token)
    files["webhook-secret"].write_text(SECRET)
    with postgres_database(postgres) as url, receiving() as receiver:
        with serving(
            tmp_path / "data",
            token=token,
            TUNER_LOG_LEVEL="DEBUG",
            TUNER_DATABASE_URL=make_url(url).set(password=PASSWORD).render_as_string(hide_password=False),
            TUNER_TOKEN_FILE=str(files["token"]),
            TUNER_WEBHOOK_HOSTS="127.0.0.1",
            TUNER_WEBHOOK_SECRET_FILE=str(files["webhook-secret"]),
        ) as service:
            service.post("/v1/studies", {**TINY, "webhook": receiver.url})
            wait_for(lambda: receiver.got, "the webhook")
            paths = ("/v1/studies/tiny", "/v1/studies/tiny/deliveries", "/v1/jobs/1/log", "/v1/audit", "/metrics")
            told = [httpx.get(f"{service.url}{path}", headers=service.headers).text for path in paths]
        told.append(service.log)
    assert "DEBUG token-file GET /v1/studies/tiny: 200" in service.log
    for secret in (PASSWORD, token, SECRET, SECRET.removeprefix("whsec_")):
        assert not [text for text in told if secret in text]


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://tuner:{PASSWORD}@127.0.0.1:port/tuner",
        f"postgresql+psycopg://tuner:a@b:{PASSWORD}/tuner",
        f"nosuch://tuner:{PASSWORD}@127.0.0.1/tuner",
        f"postgresql+nosuch://tuner:{PASSWORD}@127.0.0.1/tuner",
        PASSWORD,
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    """The rule is told, and nothing of the value: it may be the password that is at fault."""
    for ask in (open_database, is_there):
        with pytest.raises(InvalidInput, match="TUNER_DATABASE_URL must be") as refused:
            ask(url)
        assert PASSWORD not in str(refused.value)
        assert refused.value.__suppress_context__


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    engine = open_database(f"postgresql+psycopg://tuner:{PASSWORD}@127.0.0.1:1/tuner")
    with pytest.raises(Unavailable) as away, reading(engine):
        pass
    assert PASSWORD not in str(away.value)
