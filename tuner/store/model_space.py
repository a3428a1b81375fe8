"""The disk that models take: what nothing needs any more goes, and above a limit the oldest of what is not needed most.

Below the models' folder lie, for each model, a folder by its id; for a training run the folder `run-<id>` with its weights, and
while it is trained the file `run-<id>.checkpoint`; while a job's student is trained, its teacher's weights in the
folder `teacher-<job>`. Names that begin with a dot, and checkpoints that end on a process's number,
were left by one that died while it wrote.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, select, update

from tuner.store.champions import standing_models
from tuner.store.clock import rfc3339
from tuner.store.database import reading, writing
from tuner.store.jobs import UNFINISHED, JobState
from tuner.store.model_files import remove_weights
from tuner.store.runs import RunState
from tuner.store.tables import jobs, models, runs

logger = logging.getLogger(__name__)

STRAY_AFTER = timedelta(days=1)
"""Files are written before their rows; what still has none after so long has lost its writer."""

_OURS = re.compile(r"[0-9a-f]{16}|teacher-\d+|run-\d+(\.checkpoint|\.\d+)?|\.((run|teacher)-\d+|[0-9a-f]{16})-\d+")

GIGABYTE = 10**9


def tidy(engine: Engine, models_dir: Path, now: datetime, retry_until: datetime, limit_gb: float) -> Iterator[None]:
    """Forget the weights of runs whose job has succeeded, or has ended otherwise before `retry_until`; remove files that nothing
    refers to; then keep the whole below the limit, as far as it can be. Each step is one small transaction or removal."""
    over = _needs_no_more(rfc3339(retry_until))
    with writing(engine) as connection:
        ended = select(jobs.c.id).where(over)
        connection.execute(
            update(runs).where(runs.c.weights.is_not(None), runs.c.job_id.in_(ended)).values(weights=None)
        )
    yield
    for path in _strays(engine, models_dir, now, over):
        _remove(path)
        yield
    yield from _shrink(engine, models_dir, now, int(limit_gb * GIGABYTE))


def _needs_no_more(retry_until: str) -> ColumnElement[bool]:
    """Of jobs. One that has failed or was cancelled may be retried, and then goes on with what it has."""
    ended = jobs.c.state.not_in(UNFINISHED)
    return (jobs.c.state == JobState.SUCCEEDED) | (ended & (jobs.c.finished_at < retry_until))


def _strays(engine: Engine, models_dir: Path, now: datetime, over: ColumnElement[bool]) -> list[Path]:
    before = (now - STRAY_AFTER).timestamp()
    old = [path for path in _listing(models_dir) if _OURS.fullmatch(path.name) and _changed_at(path) < before]
    with reading(engine) as connection:
        needed = _needed(connection, over)
    return [path for path in old if path.name not in needed]


def _needed(connection: Connection, over: ColumnElement[bool]) -> set[str]:
    """Names below the models' folder."""
    of_jobs = select(runs.c.id).join(jobs, jobs.c.id == runs.c.job_id)
    under_way = connection.execute(of_jobs.where(jobs.c.state.in_(UNFINISHED))).scalars().all()
    begun = connection.execute(of_jobs.where(runs.c.state == RunState.RUNNING, ~over)).scalars().all()
    weights = connection.execute(select(runs.c.weights).where(runs.c.weights.is_not(None))).scalars()
    kept = connection.execute(select(models.c.id).where(models.c.files_removed_at.is_(None))).scalars()
    unfinished = {f"run-{run_id}" for run_id in under_way} | {f"run-{run_id}.checkpoint" for run_id in begun}
    at_work = connection.execute(select(jobs.c.id).where(jobs.c.state.in_(UNFINISHED))).scalars()
    return unfinished.union(weights, kept, (f"teacher-{job_id}" for job_id in at_work))


def _shrink(engine: Engine, models_dir: Path, now: datetime, limit: int) -> Iterator[None]:
    sizes = {path.name: _size(path) for path in _listing(models_dir)}
    excess = sum(sizes.values()) - limit
    if excess <= 0:
        return
    with reading(engine) as connection:
        dispensable = connection.execute(_dispensable()).scalars().all()
    for model_id in dispensable:
        if excess <= 0:
            return
        with writing(engine) as connection:
            connection.execute(update(models).where(models.c.id == model_id).values(files_removed_at=rfc3339(now)))
        _remove(models_dir / model_id)
        excess -= sizes.get(model_id, 0)
        yield
    if excess > 0:
        rule = f"models may take {limit:,} bytes (TUNER_KEEP_MODELS_GB), but what must be kept takes {excess:,} more"
        logger.warning("%s; delete studies, or raise the limit", rule)


def _dispensable() -> Select[Any]:
    """Models that are neither a study's winner nor a schedule's champion, the oldest first."""
    there = models.c.files_removed_at.is_(None)
    query = select(models.c.id).where(there, ~models.c.promoted, models.c.id.not_in(standing_models()))
    return query.order_by(models.c.created_at, models.c.id)


def _listing(models_dir: Path) -> list[Path]:
    return sorted(models_dir.iterdir()) if models_dir.is_dir() else []


def _changed_at(path: Path) -> float:
    """Seconds since 1970; of what has gone meanwhile, for ever."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return float("inf")


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a folder; what goes meanwhile counts nothing."""
    size = 0
    for file in (path, *path.rglob("*")):
        with suppress(OSError):
            size += file.lstat().st_size if file.is_file() else 0
    return size


def _remove(path: Path) -> None:
    """What cannot be removed now is tried again in the next round."""
    if path.is_dir():
        remove_weights(path)
    else:
        with suppress(OSError):
            path.unlink()
    logger.info("removed %s from the models", path.name)
