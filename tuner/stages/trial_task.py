"""A trial of the search as a task: what the search submits, and what a replay submits again."""

from tuner.data.catalogue import Dataset
from tuner.data.splits import part_sizes, search_slices
from tuner.executors.protocol import DataSlice, Task
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import StudySpec


def subset_slice(spec: StudySpec, dataset: Dataset) -> DataSlice:
    """The search's images: a prefix of the training order, judged on its end, which no trial trains on."""
    train_count, _ = part_sizes(dataset.train_count)
    train, validation = search_slices(train_count, spec.subset.train, spec.subset.validation)
    return DataSlice(dataset.folder, train, validation)


def trial_task(spec: StudySpec, dataset: Dataset, point: Hyperparameters, seed: int, key: str) -> Task:
    """All that the bits of a trial depend on, besides the build that trains it."""
    return Task(
        key=key,
        hyperparameters=point,
        data=subset_slice(spec, dataset),
        epochs=spec.subset.epochs,
        seed=seed,
        timeout_seconds=spec.budget.trial_timeout_seconds,
        decay=True,
    )
