"""A job that trains nothing: its search is the coordinator's own, its executor does no work, so what is left is the rows."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from tuner.data.catalogue import describe
from tuner.executors.protocol import EpochEnded, Event, Task, Trained
from tuner.settings import Settings
from tuner.specs.epoch import EpochRecord
from tuner.specs.study import StudySpec
from tuner.stages.job import RunningJob
from tuner.stages.leased_job import T
from tuner.stages.search import _Search
from tuner.store import jobs, studies
from tuner.store.database import reading, writing
from tuner.store.events import Entry
from tuner.store.jobs import JobState
from tuner.store.posting import post_study

SPACE: dict[str, Any] = {
    "depth": {"low": 1, "high": 6},
    "width": {"low": 32, "high": 512, "log": True},
    "activation": {"choices": ["sigmoid", "tanh", "relu"]},
    "loss": {"choices": ["mse", "cross_entropy"]},
    "optimizer": "adam",
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "dropout": {"low": 0.0, "high": 0.6},
    "shift_pixels": {"choices": [0, 1, 2]},
    "batch_size": {"choices": [32, 64, 128, 256]},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}
"""Nine parameters, none of them conditional."""

REPORTS = 5


def study_spec(name: str, n_trials: int) -> StudySpec:
    body = {"name": name, "search_space": SPACE, "sampler": {"kind": "random"}, "pruner": {"kind": "none"}}
    return StudySpec.model_validate({**body, "promotion": None, "budget": {"n_trials": n_trials}})


def epoch(number: int, accuracy: float) -> EpochRecord:
    numbers = dict.fromkeys(EpochRecord.model_fields, 0.123456789012345)
    return EpochRecord.model_validate({**numbers, "epoch": number, "validation_accuracy": accuracy})


class Idle:
    """An executor that leaves every task to the benchmark."""

    slots = 1

    def __init__(self) -> None:
        self.task: Task | None = None

    def submit(self, task: Task, deliver: Callable[[Event], None]) -> None:
        self.task = task

    def stop(self, key: str) -> None:
        pass

    def close(self) -> None:
        pass


class TimedJob(RunningJob):
    """`seconds` is what the last writes took, from the call to the confirmed commit."""

    seconds = 0.0

    def write(self, change: Callable[[Connection], T], *told: Entry, **values: Any) -> T:
        began = time.perf_counter()
        answer = super().write(change, *told, **values)
        self.seconds += time.perf_counter() - began
        return answer


class Bookkeeping:
    """A study that was posted here and whose job this process has claimed."""

    def __init__(self, engine: Engine, name: str, n_trials: int) -> None:
        with writing(engine) as connection:
            self.job_id = post_study(connection, study_spec(name, n_trials), Settings())
        lease = jobs.claim(engine, "benchmark", [])
        assert lease is not None
        assert lease.job_id == self.job_id
        with reading(engine) as connection:
            study = studies.find_study_by_id(connection, lease.study_id)
        assert study is not None
        assert isinstance(study.spec, StudySpec)
        assert study.spec.dataset is not None
        assert study.created_at is not None
        self.study_id = study.id
        self._executor = Idle()
        self.job = TimedJob(
            engine=engine,
            lease=lease,
            name=name,
            spec=study.spec,
            dataset=describe(study.spec.dataset, Path()),
            executor=self._executor,
            models_dir=Path(),
            ending=threading.Event(),
            created_at=study.created_at,
        )
        self._search = _Search(self.job)
        self._random = random.Random(0)

    def trial(self, *, reports_apart: bool) -> float:
        """The seconds that the writes of one trial took.

        Its reports go with its end, as those of a trial of less than a second do, or `reports_apart`: each in a transaction of
        its own with heartbeat and progress, as those of a lone trial whose epochs take more than a second.
        """
        self.job.seconds = 0.0
        self._search._start()
        task = self._executor.task
        assert task is not None
        for number in range(1, REPORTS + 1):
            self._search._handle(EpochEnded(task.key, epoch(number, self._random.random())))
            if reports_apart:
                self.job._last_write = float("-inf")  # as if a second had passed
                self.job._last_control = float("inf")
                self.job.tick()
        self._search._handle(Trained(task.key, REPORTS, 0.9, 1.0, 1.0, None))
        return self.job.seconds

    def end(self) -> None:
        """The job has succeeded."""

        def succeed(connection: Connection) -> None:
            jobs.report_progress(connection, self.job.lease, self.job.finished_progress(), 60.0)
            jobs.end_job(connection, self.job.lease, JobState.SUCCEEDED, "n_trials")

        self.job.write(succeed)
