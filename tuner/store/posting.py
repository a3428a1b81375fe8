"""The one road by which a study comes into being: checked against its data, written, its first job queued."""

from sqlalchemy import Connection

from tuner.data.catalogue import Dataset, describe
from tuner.data.splits import part_sizes, search_slices
from tuner.errors import InvalidInput, NotFound
from tuner.settings import Settings
from tuner.specs.earlier_trial import EarlierTrial
from tuner.specs.outside_study import OutsideStudySpec
from tuner.specs.study import StudySpec
from tuner.store import estimating, studies, warm_starts
from tuner.webhooks import WebhookRules


def post_study(
    connection: Connection, spec: StudySpec | OutsideStudySpec, settings: Settings, after_job_id: int | None = None
) -> int:
    """The id of the study's first job, which waits until `after_job_id` has ended.

    Raises InvalidInput where the spec does not go with its data set or its earlier studies, Conflict where the name is taken.
    """
    notes = check(spec, settings)
    warm: list[EarlierTrial] = []
    if isinstance(spec, StudySpec):
        warm, said = warm_starts.gather(connection, spec)
        notes += said
    total = spec.budget.n_trials + spec.promoted_epochs(spec.promotion)
    job_id = studies.create_study(connection, spec, notes, total, after_job_id)
    study = studies.find_study(connection, spec.name)
    assert study is not None
    warm_starts.keep(connection, study.id, warm)
    if isinstance(spec, StudySpec) and (expected := estimating.estimate_study(connection, spec, settings)) is not None:
        studies.write_estimate(connection, study.id, expected)
    return job_id


def check(spec: StudySpec | OutsideStudySpec, settings: Settings) -> list[str]:
    """What the service changes of the spec to fit the data. Raises InvalidInput where it cannot."""
    WebhookRules(settings).check(spec.webhook)
    return _fit_to_data(spec, settings) if isinstance(spec, StudySpec) else []


def _fit_to_data(spec: StudySpec, settings: Settings) -> list[str]:
    try:
        dataset = describe(spec.dataset, settings.datasets_dir)
    except NotFound as error:
        raise InvalidInput(str(error), ("dataset",)) from error
    _check_shape(spec, dataset)
    train_count, _ = part_sizes(dataset.train_count)
    (_, train), _ = search_slices(train_count, spec.subset.train, spec.subset.validation)
    if train < spec.subset.train:
        return [
            f"subset.train was cut from {spec.subset.train} to {train}: the search's {spec.subset.validation} validation "
            f"images come from the same {train_count} training images, and no trial trains on them"
        ]
    return []


def _check_shape(spec: StudySpec, dataset: Dataset) -> None:
    if spec.search_space.may_shift() and len(dataset.image_shape) != 2:
        shape = "×".join(map(str, dataset.image_shape))
        raise InvalidInput(
            f"shift_pixels needs images of two dimensions, but got {shape}", ("search_space", "shift_pixels")
        )
