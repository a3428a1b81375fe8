"""The models that were kept: rows here, files in a folder each under the models' folder."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import Field
from sqlalchemy import Connection, Row, Select, bindparam, insert, select, tuple_, update

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.spec import Spec
from tuner.store import trials
from tuner.store.tables import models, studies


class ModelMetrics(Spec):
    validation_accuracy: float
    validation_images: int | None = Field(
        None, description="that validation_accuracy is of, none of which it was trained on; null of an earlier version"
    )
    test_accuracy: float | None = Field(
        None, description="on the sealed test set, read once; null where it was not opened"
    )
    test_interval: tuple[float, float] | None = Field(None, description="Wilson's 95 % interval")
    milliseconds_per_image: float | None = Field(None, description="one image at a time, one thread, numpy")


@dataclass(frozen=True)
class Model:
    """`contender` is `default` or `trial-<number>`; `promoted` marks the study's winner, that of its newest promotion."""

    id: str
    study_id: int
    job_id: int
    study: str
    kind: str
    contender: str
    hyperparameters: Hyperparameters
    parameters: int
    metrics: ModelMetrics
    sha256: str
    promoted: bool
    created_at: str
    files_removed_at: str | None = None


def add_model(connection: Connection, model: Model) -> None:
    """Writes nothing where the job's contender has its model already. A promoted one takes the place of an earlier winner."""
    known = select(models.c.id).filter_by(job_id=model.job_id, contender=model.contender)
    if connection.execute(known).one_or_none() is not None:
        return
    if model.promoted:
        connection.execute(update(models).where(models.c.study_id == model.study_id).values(promoted=False))
    values: dict[str, Any] = {
        "id": model.id,
        "study_id": model.study_id,
        "job_id": model.job_id,
        "kind": model.kind,
        "contender": model.contender,
        "hyperparameters": model.hyperparameters.model_dump(),
        "parameters": model.parameters,
        "metrics": model.metrics.model_dump(),
        "sha256": model.sha256,
        "promoted": model.promoted,
        "created_at": model.created_at,
    }
    connection.execute(insert(models).values(values))


def find_model(connection: Connection, model_id: str) -> Model | None:
    row = connection.execute(_query().where(models.c.id == model_id)).one_or_none()
    return None if row is None else _model(row)


def promoted_model(connection: Connection, study_id: int) -> Model | None:
    """The study's winner."""
    row = connection.execute(_promoted(), {"study": study_id}).one_or_none()
    return None if row is None else _model(row)


@lru_cache
def _promoted() -> Select[Any]:
    """Of the study `study`."""
    return _query().where(models.c.study_id == bindparam("study"), models.c.promoted)


def winner_of(connection: Connection, job_id: int) -> str | None:
    """The id of the model that this job has promoted, also where a later job has promoted another one."""
    query = select(models.c.id).filter_by(job_id=job_id, kind="single").order_by(models.c.created_at.desc()).limit(1)
    model_id: str | None = connection.execute(query).scalar_one_or_none()
    return model_id


def has_files(connection: Connection, model_id: str) -> bool:
    """Whether the model is there, also that of a deleted study, and its files were not removed."""
    query = select(models.c.id).where(models.c.id == model_id, models.c.files_removed_at.is_(None))
    return connection.execute(query).one_or_none() is not None


def list_models(connection: Connection, before: str | None, limit: int, study_id: int | None = None) -> list[Model]:
    """Models from the newest down, at most `limit`; `before` is the cursor `<created_at> <id>`."""
    query = _query().order_by(models.c.created_at.desc(), models.c.id.desc()).limit(limit)
    if study_id is not None:
        query = query.where(models.c.study_id == study_id)
    if before is not None:
        created_at, _, model_id = before.partition(" ")
        query = query.where(tuple_(models.c.created_at, models.c.id) < (created_at, model_id))
    return [_model(row) for row in connection.execute(query)]


def _query() -> Select[Any]:
    ours = studies.join(trials.STUDIES, trials.STUDIES.c.study_id == studies.c.study_id)
    on = models.join(ours, models.c.study_id == studies.c.study_id)
    return select(models, studies.c.name).select_from(on).where(studies.c.deleted_at.is_(None))


def _model(row: Row[Any]) -> Model:
    return Model(
        id=row.id,
        study_id=row.study_id,
        job_id=row.job_id,
        study=row.name,
        kind=row.kind,
        contender=row.contender,
        hyperparameters=Hyperparameters.model_validate(row.hyperparameters),
        parameters=row.parameters,
        metrics=ModelMetrics.model_validate(row.metrics),
        sha256=row.sha256,
        promoted=row.promoted,
        created_at=row.created_at,
        files_removed_at=row.files_removed_at,
    )
