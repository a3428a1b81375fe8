"""Where jobs that promote run in the test's own process: real nets on a few thousand real digits, on a real SQLite file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, update

from tests.digits import install_digits
from tuner.data.catalogue import describe
from tuner.executors.local import LocalExecutor
from tuner.settings import Settings
from tuner.specs.job import PromoteWork, read_work
from tuner.specs.study import StudySpec
from tuner.specs.verdict import Verdict
from tuner.stages.job import RunningJob
from tuner.store import further_jobs, jobs, ledger, runs, studies, tables, verdicts
from tuner.store.database import migrate, open_database, reading, writing
from tuner.store.jobs import Job
from tuner.store.ledger import Opening
from tuner.store.runs import Run, Stage


def claim_job(engine: Engine, executor: LocalExecutor, datasets: Path, models_dir: Path) -> RunningJob:
    """The next job in the queue, in a runner's hands."""
    lease = jobs.claim(engine, "runner", [])
    assert lease is not None
    with reading(engine) as connection:
        study, job = studies.find_study_by_id(connection, lease.study_id), jobs.find_job(connection, lease.job_id)
    assert study is not None
    assert job is not None
    assert study.created_at is not None
    assert isinstance(study.spec, StudySpec)
    return RunningJob(
        engine=engine,
        lease=lease,
        name=study.name,
        spec=study.spec,
        ending=threading.Event(),
        work=None if job.work is None else read_work.validate_python(job.work),
        dataset=describe(study.spec.dataset, datasets),
        executor=executor,
        models_dir=models_dir,
        created_at=study.created_at,
    )


@dataclass
class House:
    engine: Engine
    executor: LocalExecutor
    datasets: Path
    settings: Settings

    def post(
        self, name: str, promotes: bool = True, ensemble: dict[str, Any] | None = None, **promotion: Any
    ) -> RunningJob:
        """A new study's job, claimed."""
        promoting = {"top_k": 2, "max_seeds": 2, "epochs": 2, "max_cost": None, **promotion}
        spec = StudySpec.model_validate(
            {
                "name": name,
                "dataset": "digits",
                "search_space": {
                    "depth": 1,
                    "width": {"low": 16, "high": 48},
                    "activation": "relu",
                    "shift_pixels": 0,
                    "rotate_degrees": 0,
                    "zoom": 0,
                },
                "subset": {"train": 400, "validation": 200, "epochs": 2},
                "budget": {"n_trials": 8, "parallel": 1},
                "pruner": {"kind": "none"},
                "promotion": promoting if promotes else None,
                "ensemble": ensemble,
            }
        )
        with writing(self.engine) as connection:
            studies.create_study(connection, spec, [], 1)
        return self.claim()

    def queue(self, study_id: int, **work: Any) -> RunningJob:
        with writing(self.engine) as connection:
            further_jobs.queue_job(connection, study_id, PromoteWork.model_validate(work))
        return self.claim()

    def claim(self) -> RunningJob:
        return claim_job(self.engine, self.executor, self.datasets, self.settings.models_dir)

    def change(self, job: RunningJob, part: str, **values: Any) -> None:
        """Of the study's spec, in its row: a job that works reads it again and again."""
        mine = tables.studies.c.study_id == job.study_id
        with writing(self.engine) as connection:
            spec = connection.execute(select(tables.studies.c.spec).where(mine)).scalar_one()
            changed = StudySpec.model_validate({**spec, part: {**spec[part], **values}})
            connection.execute(update(tables.studies).where(mine).values(spec=changed.model_dump(mode="json")))
        job.spec = changed

    def verdict(self, job: RunningJob) -> Verdict:
        with reading(self.engine) as connection:
            found = verdicts.of_job(connection, job.lease.job_id)
        assert found is not None
        return found

    def trained(self, job: RunningJob, stage: Stage) -> list[Run]:
        with reading(self.engine) as connection:
            return runs.load_runs(connection, job.study_id, job.lease.job_id, stage)

    def openings(self, job: RunningJob) -> list[Opening]:
        """Of these images, by the job's study."""
        with reading(self.engine) as connection:
            found = ledger.load_openings(connection, job.dataset.checksum)
        return [opening for opening in found if opening.study_name == job.name]

    def row(self, job: RunningJob) -> Job:
        with reading(self.engine) as connection:
            found = jobs.find_job(connection, job.lease.job_id)
        assert found is not None
        return found


@contextmanager
def open_house(root: Path) -> Iterator[House]:
    install_digits(root / "datasets")
    settings = Settings(data_dir=root)
    engine, executor = open_database(settings.database_url), LocalExecutor(2)
    migrate(engine)
    yield House(engine, executor, root / "datasets", settings)
    executor.close()
    engine.dispose()
