"""What routes are given: settings, connections, and rows that were found, or else a 404."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from sqlalchemy import Connection, Engine

from api.changes import Change
from api.findings import Findings
from api.keyring import Caller, Keyring
from api.limits import Limits
from tuner.errors import NotFound
from tuner.settings import Settings
from tuner.store import jobs, model_registry, studies
from tuner.store.database import reading, reporting_outages
from tuner.store.jobs import Job
from tuner.store.model_registry import Model
from tuner.store.studies import Study


def get_engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def get_caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def get_change(request: Request) -> Change:
    change: Change = request.state.change
    return change


def get_keyring(request: Request) -> Keyring:
    keyring: Keyring = request.app.state.keyring
    return keyring


def get_limits(request: Request) -> Limits:
    limits: Limits = request.app.state.limits
    return limits


def get_findings(request: Request) -> Findings:
    findings: Findings = request.app.state.findings
    return findings


AnEngine = Annotated[Engine, Depends(get_engine)]
TheSettings = Annotated[Settings, Depends(get_settings)]
TheCaller = Annotated[Caller, Depends(get_caller)]
TheChange = Annotated[Change, Depends(get_change)]
TheFindings = Annotated[Findings, Depends(get_findings)]
TheKeyring = Annotated[Keyring, Depends(get_keyring)]
TheLimits = Annotated[Limits, Depends(get_limits)]


def _read(engine: AnEngine) -> Iterator[Connection]:
    with reading(engine) as connection:
        yield connection


async def begin_change(change: TheChange) -> AsyncIterator[Connection]:
    connection = await change.begin()
    with reporting_outages():  # what the database refuses to the route
        yield connection


READERS = 8
"""Read transactions at once. Those that wait for their turn hold no thread and no connection, of which there are 15: else those
who wait could keep those who read from going on."""

Reading = Annotated[Connection, Depends(_read, max_concurrency=READERS)]
Writing = Annotated[Connection, Depends(begin_change, scope="function")]
"""A write transaction: committed, with the audit log's entry and the answer to an Idempotency-Key, before the answer is sent;
rolled back where that is no success. A route that changes something uses this one and no other."""

StudyName = Annotated[str, Path(description="a study's name, or `@<id>` of a foreign one", examples=["mnist-quick"])]
Limit = Annotated[int, Query(ge=1, le=500, description="items of a page", examples=[50])]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before", examples=["NTA"])]


def find_study(connection: Connection, name: str) -> Study:
    study = studies.find_study(connection, name)
    if study is None:
        raise NotFound(f"no study is named {name!r}")
    return study


def find_job(connection: Connection, job_id: str) -> Job:
    job = jobs.find_job(connection, int(job_id)) if job_id.isdecimal() and len(job_id) < 10 else None
    if job is None:
        raise NotFound(f"no job has the id {job_id!r}")
    return job


def find_model(connection: Connection, model_id: str) -> Model:
    model = model_registry.find_model(connection, model_id)
    if model is None:
        raise NotFound(f"no model has the id {model_id!r}")
    return model


def find_files(model: Model, settings: Settings) -> FilePath:
    """The model's folder. Raises NotFound where its files were removed."""
    if model.files_removed_at is not None:
        rule = f"models may take {settings.keep_models_gb:g} GB, winners and champions before others (TUNER_KEEP_MODELS_GB)"
        raise NotFound(f"{rule}, so the files of {model.id} were removed at {model.files_removed_at}")
    return settings.models_dir / model.id
