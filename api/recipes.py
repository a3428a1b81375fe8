"""A ranked configuration as a recipe: what its script has to do to train it as it was trained."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from api.answers import BestConfiguration
from tuner.data.catalogue import Dataset, check_same_data, describe, description
from tuner.data.splits import part_sizes, search_slices
from tuner.errors import InvalidInput
from tuner.exports.recipe import Images, Origin, Recipe
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import StudySpec
from tuner.store.studies import Study

Stage = Literal["search", "promotion"]


def recipe_of(study: Study, stage: Stage, configuration: BestConfiguration, datasets_dir: Path) -> Recipe:
    """Raises InvalidInput for a study whose trials are not nets of ours, NotFound or Conflict where its data is not there."""
    point, spec = configuration.hyperparameters, study.spec
    seed, epochs = configuration.seed, configuration.epochs
    if not isinstance(spec, StudySpec) or not isinstance(point, Hyperparameters) or seed is None or epochs is None:
        raise InvalidInput(
            f"a script can be written of a net of ours, but {study.name!r} tunes something else", ("format",)
        )
    dataset = describe(spec.dataset, datasets_dir)
    check_same_data(study.name, study.dataset_checksum, dataset)
    origin = Origin(
        study=study.name,
        stage=stage,
        rank=configuration.rank,
        contender=configuration.contender,
        model=configuration.model,
        validation_accuracy=configuration.seed_value or configuration.value,
        test_accuracy=configuration.test_accuracy,
    )
    images = _subset(spec, dataset) if stage == "search" else _all(dataset, configuration.train_images)
    stored = description(spec.dataset, datasets_dir)
    images = replace(images, test_split_off=stored.test_split_off, made_from=stored.made_from)
    return Recipe(origin, images, point, seed, epochs, configuration.kept_epoch or epochs)


def _subset(spec: StudySpec, dataset: Dataset) -> Images:
    train_count, _ = part_sizes(dataset.train_count)
    train, validation = search_slices(train_count, spec.subset.train, spec.subset.validation)
    return _images(dataset, train, validation)


def _all(dataset: Dataset, train: int | None) -> Images:
    """So many to train on, or as many as the race; the others judge."""
    cut = train or part_sizes(dataset.train_count)[0]
    return _images(dataset, (0, cut), (cut, dataset.train_count))


def _images(dataset: Dataset, train: tuple[int, int], validation: tuple[int, int]) -> Images:
    return Images(
        dataset=dataset.name,
        image_shape=dataset.image_shape,
        classes=dataset.classes,
        train_count=dataset.train_count,
        train=train,
        validation=validation,
    )
