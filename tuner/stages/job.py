"""A job that trains our nets: beside its rows, the one road to its executor."""

import itertools
import queue
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from tuner.data.catalogue import Dataset
from tuner.data.sealed import Pixels
from tuner.data.splits import part_sizes, refit_sizes
from tuner.executors.protocol import DataSlice, EpochEnded, Event, Executor, Task
from tuner.specs.epoch import EpochRecord
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.job import PromoteWork, SearchWork
from tuner.specs.study import EnsembleSpec, PromotionSpec, StudySpec
from tuner.stages.leased_job import LeasedJob
from tuner.store import curves, ledger, trials
from tuner.store.events import Entry
from tuner.store.model_files import AnyNet, StoredNet, read_weights
from tuner.store.runs import Run, Stage, load_runs

MAX_KILLED = 3
"""A trial or run whose worker died so often has failed: most likely it needs more memory than there is."""


@dataclass(kw_only=True)
class RunningJob(LeasedJob[StudySpec]):
    dataset: Dataset
    executor: Executor
    models_dir: Path
    created_at: str
    """Of the study."""
    challenge_epochs: int = 0
    """That a challenge at the end will train, as far as is known before; for the progress."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: set[str] = set()
        self._reports: list[tuple[int, EpochRecord]] = []
        self._run_records: list[tuple[int, EpochRecord]] = []
        self._epochs: list[Entry] = []
        self._keys = itertools.count()

    @property
    def promotion(self) -> PromotionSpec | None:
        """How this job promotes, if it does."""
        if self.work is None:
            return self.spec.promotion
        return None if isinstance(self.work, SearchWork) else self.work.promotion(self.spec.promotion)

    @property
    def ensemble(self) -> EnsembleSpec | None:
        """What is made of this job's winner, if anything."""
        return self.work.ensemble_of(self.spec.ensemble) if isinstance(self.work, PromoteWork) else self.spec.ensemble

    @property
    def ensemble_epochs(self) -> int:
        """That are planned for the ensemble."""
        ensemble, promotion = self.ensemble, self.promotion
        return 0 if ensemble is None or promotion is None else ensemble.epochs(promotion)

    @property
    def forces_test(self) -> bool:
        """Whether an operator wants the sealed test set opened although the study has opened it before."""
        return isinstance(self.work, PromoteWork) and self.work.force_test

    @property
    def reports_to_optuna(self) -> bool:
        """Whether a trial's epochs stand in Optuna's tables; of several objectives it takes none."""
        return len(self.spec.objectives) == 1

    @property
    def slots(self) -> int:
        return min(self.spec.budget.parallel or self.executor.slots, self.executor.slots)

    @property
    def train_count(self) -> int:
        """Training images that search and race may use: those which the split has not kept for validation."""
        return part_sizes(self.dataset.train_count)[0]

    @property
    def race_slice(self) -> DataSlice:
        """What a race trains on and is judged by."""
        return self._cut_at(self.train_count)

    @property
    def refit_slice(self) -> DataSlice:
        """The same of the nets that come after the race."""
        return self._cut_at(refit_sizes(self.dataset.train_count)[0])

    def _cut_at(self, count: int) -> DataSlice:
        return DataSlice(self.dataset.folder, (0, count), (count, self.dataset.train_count))

    def parameters(self, point: Hyperparameters) -> int:
        """Of its net for the study's images."""
        return point.parameter_count(self.dataset.inputs, self.dataset.classes)

    def violation(self, point: Hyperparameters) -> float:
        """By what share its net is too large for the study; 0 or less: it is not."""
        return self.spec.constraints.violation(self.parameters(point))

    def runs(self, stage: Stage) -> list[Run]:
        """What this job has trained in a stage, in the order of their starts."""
        return self.read(lambda connection: load_runs(connection, self.study_id, self.lease.job_id, stage))

    def weights(self, run: Run) -> bytes:
        """Of a run that was asked to keep them and has reached its end."""
        return read_weights(self.models_dir / str(run.weights))

    def net(self, run: Run) -> StoredNet:
        return StoredNet.from_bytes(self.weights(run), run.hyperparameters.activation)

    def right(self, net: AnyNet, images: Pixels, labels: Pixels) -> NDArray[np.bool_]:
        """(images,): which of them the net has right."""
        right: NDArray[np.bool_] = net.predict(images).argmax(axis=1) == labels
        self.tick()
        return right

    def has_opened_test(self) -> bool:
        """Whether the sealed test set was opened by an earlier attempt, so that no net joins its frozen list."""
        return self.read(lambda connection: ledger.has_opened(connection, self.lease.job_id))

    def race_is_over(self) -> bool:
        """Whether an earlier attempt has come to what follows the race, so that no contender and no seed joins it."""
        return bool(self.runs("verdict") or self.runs("ensemble")) or self.has_opened_test()

    def new_key(self, what: str) -> str:
        """A name that no other task has, of this job or another."""
        return f"job-{self.lease.job_id}/{what}/{next(self._keys)}-{self.lease.fence}"

    def submit(self, task: Task) -> None:
        self._running.add(task.key)
        self.executor.submit(task, self._inbox.put)

    def stop(self, key: str) -> None:
        self.executor.stop(key)

    def wait(self, seconds: float = 0.1) -> list[Event]:
        """The events that have come, after waiting up to `seconds` for the first."""
        events: list[Event] = []
        try:
            events.append(self._inbox.get(timeout=seconds))
            while True:
                events.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        self._running -= {event.key for event in events if not isinstance(event, EpochEnded)}
        return events

    def stop_all(self, seconds: float = 3.0) -> None:
        """End every task that runs; the executor kills those that do not obey within a second."""
        for key in self._running:
            self.executor.stop(key)
        deadline = time.monotonic() + seconds
        while self._running and time.monotonic() < deadline:
            self.wait()

    def report(self, trial_id: int, number: int, record: EpochRecord) -> None:
        """Keep a trial's epoch for the next transaction."""
        self._reports.append((trial_id, record))
        self._epochs.append(_epoch(record, number=number))

    def report_run(self, run_id: int, contender: str, record: EpochRecord) -> None:
        self._run_records.append((run_id, record))
        self._epochs.append(_epoch(record, run=contender))

    def forget_reports(self, trial_id: int) -> None:
        self._reports = [row for row in self._reports if row[0] != trial_id]

    def forget_run(self, run_id: int) -> None:
        self._run_records = [row for row in self._run_records if row[0] != run_id]

    def _write_kept(self, connection: Connection) -> None:
        if self.reports_to_optuna:
            trials.add_reports(connection, [(i, r.epoch, r.validation_accuracy) for i, r in self._reports])
        curves.add_records(connection, "trial", self._reports)
        curves.add_records(connection, "run", self._run_records)

    def _kept_entries(self) -> list[Entry]:
        return self._epochs

    def _forget_kept(self) -> None:
        self._reports, self._run_records, self._epochs = [], [], []


def _epoch(record: EpochRecord, **whose: Any) -> Entry:
    return Entry("epoch", {**whose, "epoch": record.epoch, "value": record.validation_accuracy})
