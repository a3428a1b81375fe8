"""Comparisons of two configurations, on nets whose truth is known."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from benchmarks.calibration import Case, measure
from tuner.statistics.comparison import Comparison, compare


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def rights(shares: list[float], images: int, seed: int = 0) -> NDArray[np.bool_]:
    """(seeds, images): the net of each seed has each image right with its share's probability."""
    return np.asarray(generator(seed).random((len(shares), images)) < np.array(shares)[:, None])


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("deviation", [0.0005, 0.002])
def test_an_interval_covers_as_often_as_it_says(seeds: int, deviation: float) -> None:
    """The 95 % interval holds the truth and the 5 % test errs as often as they claim, over seeds and images; here to within
    what 400 comparisons on 2,000 images can tell. The whole table is made by benchmarks/calibration.py."""
    shares = measure(Case(seeds, (deviation, deviation), alike=0.95, images=2000), 400, generator())
    assert 92.5 <= shares.covered <= 99
    assert 1 <= shares.claimed <= 7.5


def test_many_images_leave_the_seeds_alone() -> None:
    """Where the images' share of the variance vanishes, this is Student's two-sample test of the seeds' accuracies."""
    shares = [0.90, 0.95, 0.93], [0.80, 0.84, 0.85]
    first, second = (rights(each, 200_000, seed) for seed, each in enumerate(shares))
    seen = compare(first, second)
    expected = ttest_ind(first.mean(axis=1), second.mean(axis=1), alternative="greater")
    assert seen.seed_freedom == expected.df == 4
    assert seen.difference / seen.standard_error == pytest.approx(expected.statistic, rel=1e-3)
    assert seen.p_value() == pytest.approx(expected.pvalue, rel=1e-2)


def test_images_alone_are_a_paired_test() -> None:
    """Where every seed gives the same net, the error is that of a paired comparison on the images."""
    one, other = rights([0.9], 5000, 1), rights([0.85], 5000, 2)
    seen = compare(np.repeat(one, 4, axis=0), np.repeat(other, 4, axis=0))
    differences = one[0].astype(float) - other[0]
    assert seen.seed_variance == 0
    assert seen.image_variance == pytest.approx(differences.var(ddof=1) / 5000, rel=1e-3)
    assert seen.standard_error == pytest.approx(differences.std() / np.sqrt(5000), rel=1e-3)


def test_easy_and_hard_images_do_not_widen_it() -> None:
    """Pairing: what both configurations find hard alike is no part of the error of their difference."""
    hard = np.arange(5000) < 2500
    first, second = (rights([0.9] * 3, 5000, seed) & ~hard for seed in (1, 2))
    paired, shuffled = compare(first, second), compare(first, np.roll(second, 2500, axis=1))
    assert paired.standard_error < 0.5 * shuffled.standard_error


def test_more_contenders_add_freedom() -> None:
    """The seed variance is pooled over all that are given, whatever their accuracies; the difference stays."""
    first, second, third = (rights([share] * 3, 4000, seed) for seed, share in enumerate((0.9, 0.8, 0.5)))
    alone, pooled = compare(first, second), compare(first, second, [third])
    assert (alone.seed_freedom, pooled.seed_freedom) == (4, 6)
    assert alone.difference == pooled.difference
    means = [each.mean(axis=1) for each in (first, second, third)]
    assert pooled.seed_variance == pytest.approx(2 / 3 * np.mean([mean.var(ddof=1) for mean in means]))


def test_turning_it_round_turns_the_answers_round() -> None:
    """Rival against contender has the mirrored interval, and the two one-sided probabilities add up to one."""
    first, second = rights([0.9, 0.91, 0.92], 3000, 1), rights([0.9, 0.9, 0.9], 3000, 2)
    seen, turned = compare(first, second), compare(second, first)
    low, high = seen.interval()
    assert turned.interval() == pytest.approx((-high, -low))
    assert seen.p_value() + turned.p_value() == pytest.approx(1)


@pytest.mark.parametrize(("seed_freedom", "image_variance"), [(1, 1e-7), (2, 1e-8), (4, 1e-6), (26, 1e-6)])
def test_test_and_interval_agree(seed_freedom: int, image_variance: float) -> None:
    """The one-sided 5 % test rejects exactly those margins that lie below the 90 % interval."""
    seen = Comparison(0.002, image_variance, 4e-7, images=10_000, seeds=3, seed_freedom=seed_freedom)
    low, high = seen.interval(0.90)
    assert seen.p_value(low) == pytest.approx(0.05, rel=1e-6)
    assert seen.p_value(high) == pytest.approx(0.95, rel=1e-6)
    assert seen.p_value(seen.difference) == pytest.approx(0.5, abs=1e-6)
    assert seen.exceeds(low - 1e-9)
    assert not seen.exceeds(low + 1e-9)
    assert seen.exceeds(low - 0.001, error=0.05)


def test_it_is_never_certain() -> None:
    """Contenders that agree on every image differ by 0 and an image's worth; one image of a thousand is no proof."""
    perfect = np.ones((3, 1000), bool)
    seen = compare(perfect, perfect)
    assert (seen.difference, seen.p_value()) == (0, 0.5)
    assert seen.standard_error == pytest.approx(0.001)
    nearly = perfect.copy()
    nearly[:, 0] = False
    assert 0.05 < compare(perfect, nearly).p_value() < 0.5


@pytest.mark.parametrize(
    ("shapes", "rule"),
    [
        ([(3, 10), (2, 10)], r"alike, but got \(3, 10\) and \(2, 10\)"),
        ([(3, 10), (3, 9)], r"alike, but got \(3, 10\) and \(3, 9\)"),
        ([(1, 10), (1, 10)], "at least two seeds and two images, but got 1 and 10"),
        ([(3, 10), (3, 10), (3, 9)], r"the same 10 images, but got \(3, 9\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(shapes: list[tuple[int, int]], rule: str) -> None:
    """The error names the rule and the shapes."""
    first, second, *others = (np.ones(shape, bool) for shape in shapes)
    with pytest.raises(ValueError, match=rule):
        compare(first, second, others)


def test_the_answers_are_plain_numbers() -> None:
    """They go into JSON as they are."""
    seen: Any = compare(rights([0.9, 0.8], 100, 1), rights([0.9, 0.8], 100, 2))
    answers = [seen.difference, seen.standard_error, seen.p_value(), *seen.interval()]
    assert {type(answer) for answer in answers} == {float}
