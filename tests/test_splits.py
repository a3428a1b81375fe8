"""The split of the training images, on MNIST's own labels."""

from typing import Any

import numpy as np
import pytest

from tests.digits import images_and_labels
from tuner.data.splits import Partition, part_sizes, partition, refit_sizes, search_slices
from tuner.errors import InvalidInput

Labels = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def labels() -> Labels:
    return images_and_labels()[1]


@pytest.fixture(scope="module")
def parts(labels: Labels) -> Partition:
    return partition(labels)


def test_every_image_is_in_one_part(parts: Partition) -> None:
    """50,000 and 10,000 images, disjoint, together all."""
    assert (len(parts.train), len(parts.validation)) == part_sizes(60_000) == (50_000, 10_000)
    assert np.array_equal(np.sort(np.concatenate([parts.train, parts.validation])), np.arange(60_000))


def test_the_same_for_everyone(labels: Labels, parts: Partition) -> None:
    """The split depends on the labels alone: two calls agree, and so did the version that first shipped."""
    again = partition(labels)
    assert np.array_equal(parts.train, again.train)
    assert np.array_equal(parts.validation, again.validation)
    assert parts.train[:5].tolist() == [21424, 3556, 47455, 16198, 19143]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_every_slice_is_stratified(labels: Labels, parts: Partition, part: str) -> None:
    """In any slice, a prefix or not, each class has its share of the images to within two, mostly to within one."""
    order = getattr(parts, part)
    share = np.bincount(labels) / len(labels)
    counts = np.cumsum(np.eye(10)[labels[order]], axis=0)
    counts = np.concatenate([np.zeros((1, 10)), counts])
    excess = counts - np.arange(len(counts))[:, None] * share  # of every prefix
    assert np.abs(excess).max() < 1.25
    assert (excess.max(axis=0) - excess.min(axis=0)).max() < 2  # a slice is the difference of two prefixes


def test_images_of_a_class_are_in_random_order(labels: Labels, parts: Partition) -> None:
    """The order within a class is not the file's."""
    sevens = parts.train[labels[parts.train] == 7]
    assert abs(np.corrcoef(sevens, np.arange(len(sevens)))[0, 1]) < 0.05


@pytest.mark.parametrize("count", [1, 2, 5, 17])
def test_small_sets_are_split_too(count: int) -> None:
    """One sixth, rounded, whatever the size."""
    parts = partition(np.arange(count) % 3)
    assert len(parts.validation) == round(count / 6)
    assert sorted([*parts.train, *parts.validation]) == list(range(count))


@pytest.mark.parametrize(
    ("count", "sizes"), [(60_000, (58_000, 2_000)), (1_200, (1_100, 100)), (60, (50, 10)), (2, (2, 0))]
)
def test_after_the_race_most_validation_images_are_trained_on(count: int, sizes: tuple[int, int]) -> None:
    """A fifth of them is left, and no fewer than a hundred where there are so many; in the order they are the last."""
    assert refit_sizes(count) == sizes
    parts = partition(np.arange(count) % 3)
    assert np.array_equal(parts.order[: len(parts.train)], parts.train)
    assert set(parts.order[sizes[0] :]) <= set(parts.validation)


@pytest.mark.parametrize(
    ("count", "train", "validation", "expected"),
    [
        (50_000, 5_000, 2_000, ((0, 5_000), (48_000, 50_000))),
        (50_000, 10_000, 2_000, ((0, 10_000), (48_000, 50_000))),
        (50_000, 50_000, 2_000, ((0, 48_000), (48_000, 50_000))),
        (100, 60, 50, ((0, 50), (50, 100))),
        (100, 100, 99, ((0, 1), (1, 100))),
    ],
)
def test_search_slices(
    count: int, train: int, validation: int, expected: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """Validation comes from the end, training is a prefix and is cut down where both do not fit."""
    assert search_slices(count, train, validation) == expected


@pytest.mark.parametrize(
    ("train", "validation", "field"), [(101, 10, "train"), (50, 100, "validation"), (50, 101, "validation")]
)
def test_a_part_that_cannot_fit_is_refused(train: int, validation: int, field: str) -> None:
    """The error names the field, the count and the value."""
    with pytest.raises(InvalidInput, match=rf"subset\.{field} .*100 images.* got {max(train, validation)}") as error:
        search_slices(100, train, validation)
    assert error.value.loc == ("subset", field)
