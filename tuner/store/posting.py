"""The one road by which a study comes into being: checked against its data, written, its first job queued."""

from dataclasses import dataclass

from sqlalchemy import Connection

from tuner.data.catalogue import Dataset, describe
from tuner.data.splits import part_sizes, search_slices
from tuner.errors import InvalidInput, NotFound
from tuner.settings import Settings
from tuner.specs.earlier_trial import EarlierTrial
from tuner.specs.hyperparameters import MOVING
from tuner.specs.outside_study import OutsideStudySpec
from tuner.specs.study import StudySpec, SubsetSpec
from tuner.store import dataset_uses, estimating, studies, warm_starts
from tuner.webhooks import WebhookRules

VALIDATION_SHARE = 2 / 7
"""Of a subset that is cut down on both sides, as in the default one."""

LEAST = 10
"""Images of each part of a subset."""


@dataclass(frozen=True)
class Fitted:
    """A spec as it goes with its data; `notes` say what was changed for that."""

    spec: StudySpec | OutsideStudySpec
    notes: tuple[str, ...] = ()
    dataset_checksum: str | None = None


def post_study(
    connection: Connection, spec: StudySpec | OutsideStudySpec, settings: Settings, after_job_id: int | None = None
) -> int:
    """The id of the study's first job, which waits until `after_job_id` has ended.

    Raises InvalidInput where the spec does not go with its data set or its earlier studies, Conflict where the name is taken.
    """
    fitted = check(connection, spec, settings)
    spec, notes = fitted.spec, list(fitted.notes)
    warm: list[EarlierTrial] = []
    if isinstance(spec, StudySpec):
        warm, said = warm_starts.gather(connection, spec, fitted.dataset_checksum)
        notes += said
    total = spec.budget.n_trials + spec.promoted_epochs(spec.promotion, spec.ensemble)
    job_id = studies.create_study(connection, spec, notes, total, after_job_id, fitted.dataset_checksum)
    study = studies.find_study(connection, spec.name)
    assert study is not None
    warm_starts.keep(connection, study.id, warm)
    if isinstance(spec, StudySpec) and (expected := estimating.estimate_study(connection, spec, settings)) is not None:
        studies.write_estimate(connection, study.id, expected)
    return job_id


def check(connection: Connection, spec: StudySpec | OutsideStudySpec, settings: Settings) -> Fitted:
    """The spec, which may be posted. Raises InvalidInput where it may not, as it does not go with its data or the settings."""
    WebhookRules(settings).check(spec.webhook)
    return fit_to_data(connection, spec, settings) if isinstance(spec, StudySpec) else Fitted(spec)


def fit_to_data(connection: Connection, spec: StudySpec, settings: Settings) -> Fitted:
    """The spec, with what it leaves to the data fitted to it. The data set stays until the transaction ends.

    Raises InvalidInput where what it says does not go with the data.
    """
    dataset_uses.hold(connection, spec.dataset)
    try:
        dataset = describe(spec.dataset, settings.datasets_dir)
    except NotFound as error:
        raise InvalidInput(str(error), ("dataset",)) from error
    left, notes = spec.left_to_data(), list[str]()
    if "search_space" in left:
        spec = _fit_moving(spec, left["search_space"], dataset, notes)
    _check_moving(spec, dataset)
    subset = _fit_subset(spec.subset, left.get("subset", set()), dataset, notes)
    return Fitted(spec.model_copy(update={"subset": subset}), tuple(notes), dataset.checksum)


def _fit_moving(spec: StudySpec, left: set[str], dataset: Dataset, notes: list[str]) -> StudySpec:
    """The default space moves images, where they are of two dimensions."""
    if len(dataset.image_shape) == 2:
        return spec
    shape = "×".join(map(str, dataset.image_shape))
    fixed = {name: 0 for name in MOVING if name in left}
    why = f"only images of two dimensions can be moved, and these have {shape}"
    notes.append(f"{', '.join(f'search_space.{name}' for name in fixed)} set to 0: {why}")
    return spec.model_copy(update={"search_space": spec.search_space.model_copy(update=fixed)})


def _check_moving(spec: StudySpec, dataset: Dataset) -> None:
    if len(dataset.image_shape) == 2:
        return
    for name in spec.search_space.moving():
        shape = "×".join(map(str, dataset.image_shape))
        raise InvalidInput(f"{name} needs images of two dimensions, but got {shape}", ("search_space", name))


def _fit_subset(subset: SubsetSpec, left: set[str], dataset: Dataset, notes: list[str]) -> SubsetSpec:
    """A size that was left out is cut down as far as it must; of those that were given, the training images make room.

    Raises InvalidInput where a given size alone is too large.
    """
    count, _ = part_sizes(dataset.train_count)
    train, validation = subset.train, subset.validation
    if train + validation > count:
        share = max(LEAST, round(count * VALIDATION_SHARE))
        if "validation" in left:
            validation = min(validation, share if "train" in left else max(share, count - train))
        if "train" in left:
            train = min(train, max(LEAST, count - validation))
    (_, trained), _ = search_slices(count, train, validation)
    cuts = [
        f"subset.{name} from {asked} to {kept}"
        for name, asked, kept in (("train", subset.train, trained), ("validation", subset.validation, validation))
        if kept < asked
    ]
    if cuts:
        why = f"the search's validation images come from the same {count} training images, and no trial trains on them"
        notes.append(f"cut {' and '.join(cuts)}: {why}")
    return subset.model_copy(update={"train": train, "validation": validation}) if left else subset
