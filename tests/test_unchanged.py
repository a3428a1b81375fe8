"""Answers that are given again while the database is as it was."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, event, text

from tests.conftest import connect
from tests.serving import TINY
from tuner.settings import Settings
from tuner.store import revisions, runners, studies
from tuner.store.data_version import DataVersion
from tuner.store.database import open_database, reading, writing

PATHS = (
    "/v1/studies",
    "/v1/studies/tiny",
    "/v1/studies/tiny/trials?sort=-value",
    "/v1/studies/tiny/best",
    "/v1/jobs/1",
)


KEYS = ("tuner_tokens", "tuner_sessions")
"""Who may ask is read once a second, whatever is asked."""


@contextmanager
def counting_selects() -> Iterator[list[str]]:
    """What is read of tables, on any engine."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        words = statement.split()
        if "FROM" in words and words[words.index("FROM") + 1] not in KEYS:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_version_changes_with_every_commit_and_with_nothing_else(engine: Engine) -> None:
    """Also with one that another process makes, here another engine; not with what was rolled back."""
    version, elsewhere = DataVersion(engine), open_database(engine.url.render_as_string(hide_password=False))
    before = version.read()
    assert before is not None
    with reading(engine) as connection:
        connection.execute(text("SELECT count(*) FROM tuner_studies"))
    with elsewhere.connect() as connection:
        connection.execute(text("DELETE FROM tuner_runners"))
        connection.rollback()
    assert version.read() == before
    for one in (elsewhere, engine):
        before = version.read()
        assert version.read() == before
        with writing(one) as connection:
            runners.beat(connection, "a", 1)
        assert version.read() != before
    version.close()
    elsewhere.dispose()


def test_what_was_not_changed_is_not_read_again(database_url: str, tmp_path: Path) -> None:
    """The second answer is the first one, without a table read; a change, by a request or by another process, shows at once; and
    each answer counts for its route."""
    settings = Settings(data_dir=tmp_path / "data", database_url=database_url)
    with connect(settings) as api:
        api.post("/v1/studies", json=TINY)
        first = [api.get(path) for path in PATHS]
        began = time.monotonic()
        with counting_selects() as selects:
            again = [api.get(path) for path in PATHS]
        guarded = [select for select in selects if select.startswith("SELECT EXISTS") and "tuner_tokens" in select]
        assert len(guarded) <= time.monotonic() - began + 1, "the keyring reads once a second"
        assert [select for select in selects if select not in guarded] == []
        assert [(a.status_code, a.content, a.headers["content-type"]) for a in again] == [
            (200, a.content, a.headers["content-type"]) for a in first
        ]
        assert api.post("/v1/studies/tiny/pause").json()["state"] == "paused"
        assert api.get("/v1/studies/tiny").json()["state"] == "paused"
        elsewhere = open_database(database_url)
        with writing(elsewhere) as connection:
            study = studies.find_study(connection, "tiny")
            assert study is not None
            connection.execute(text("UPDATE tuner_jobs SET priority = 7"))
            revisions.raise_revision(connection, study.id)
        elsewhere.dispose()
        assert api.get("/v1/studies/tiny").json()["job"]["priority"] == 7
        families = text_string_to_metric_families(api.get("/metrics").text)
        counted = {tuple(s.labels.values()): s.value for f in families for s in f.samples if s.name.endswith("s_total")}
        assert counted["GET", "/v1/studies/{name}", "200"] == 4


def test_a_kept_answer_is_for_those_who_may_ask(settings: Settings, tmp_path: Path) -> None:
    """The gate lies before it, and its headers are on it."""
    token = tmp_path / "token"
    token.write_text("a-token-that-nobody-guesses")
    with connect(settings.model_copy(update={"token_file": token})) as api:
        operator = {"Authorization": f"Bearer {token.read_text()}"}
        answers = [api.get("/v1/studies", headers=operator) for _ in range(2)]
        assert answers[0].headers.keys() == answers[1].headers.keys()
        assert answers[0].headers["X-Request-ID"] != answers[1].headers["X-Request-ID"]
        assert api.get("/v1/studies").status_code == 401
