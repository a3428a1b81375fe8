"""How often the service's statistics are right, on worlds whose truth is known.

    python benchmarks/calibration.py comparison    # intervals and tests of `tuner.statistics.comparison`
    python benchmarks/calibration.py champion      # what choosing and judging on the same images does
    python benchmarks/calibration.py nets          # how much real nets of several seeds differ, for the worlds below
    python benchmarks/calibration.py tau           # the interval of the rung's τ
    python benchmarks/calibration.py selection     # whole studies: search, rung, race, verdict

A world is 10,000 images of different difficulty, crossed with seeds. A net has an image right where

    a + 4 (√ρ · difficulty of the image + √(1−ρ) · the same for this configuration alone) + b · seed + noise > 0,

all of them standard normal, so the expected accuracy over seeds and images is Φ(a / √(1 + 16 + b²)), exactly. The 4 is what real
nets show (`nets`): of two seeds of one configuration only one has the image right, in 1.6 % of the validation images at an
accuracy of 0.9735, and so it is here. b sets how far the seeds' true accuracies spread; ρ says how much two configurations find
the same images hard. Of four promoted configurations of one default study, two differ on 1.2 to 1.8 % of the validation images,
which is a ρ of 0.9 to 0.995, mostly 0.95.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from tuner.specs.verdict import Gain
from tuner.stages.gain import weigh
from tuner.stages.rung import GATE
from tuner.statistics.comparison import Comparison, Correct, compare, residual_mean_square
from tuner.statistics.race import Race
from tuner.statistics.rank_correlation import kendall

IMAGES, ACCURACY, CONTRAST = 10_000, 0.985, 4.0

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Configuration:
    """A configuration in a world: how hard it finds each image, and its nets' true mean and spread of accuracy."""

    images: Array
    bias: float
    spread: float

    @classmethod
    def of(cls, images: Array, accuracy: float, seed_deviation: float) -> "Configuration":
        """`seed_deviation` is the standard deviation over the seeds of the accuracy on infinitely many images."""
        at, scale = ndtri(accuracy), np.sqrt(1 + CONTRAST**2)
        density = np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi)
        spread = seed_deviation * scale / density  # to first order
        return cls(images, float(at * np.sqrt(scale**2 + spread**2)), float(spread))

    @property
    def accuracy(self) -> float:
        """Over all seeds and images."""
        return float(ndtr(self.bias / np.sqrt(1 + CONTRAST**2 + self.spread**2)))

    def nets(self, seeds: int, generator: np.random.Generator) -> Correct:
        """(seeds, images): what nets of new seeds have right."""
        level = self.bias + self.spread * generator.standard_normal((seeds, 1))
        noise = generator.standard_normal((seeds, len(self.images)), dtype=np.float32)
        return np.asarray(level + CONTRAST * self.images + noise > 0)


def difficulties(count: int, images: int, alike: float, generator: np.random.Generator) -> Array:
    """(count, images): for each of `count` configurations, correlated by `alike`."""
    shared = generator.standard_normal(images)
    own = generator.standard_normal((count, images))
    return np.asarray(np.sqrt(alike) * shared + np.sqrt(1 - alike) * own)


@dataclass(frozen=True)
class Case:
    seeds: int
    deviations: tuple[float, float]
    """Of the two configurations' accuracies over seeds."""
    alike: float
    images: int = IMAGES

    def compare_once(self, generator: np.random.Generator) -> tuple[Comparison, float]:
        """A comparison in a new world, and the true difference."""
        images = difficulties(2, self.images, self.alike, generator)
        first, second = (
            Configuration.of(own, accuracy, deviation)
            for own, accuracy, deviation in zip(images, (ACCURACY + 0.001, ACCURACY), self.deviations, strict=True)
        )
        seen = compare(first.nets(self.seeds, generator), second.nets(self.seeds, generator))
        return seen, first.accuracy - second.accuracy

    def __str__(self) -> str:
        deviations = " and ".join(f"{100 * deviation:g}" for deviation in dict.fromkeys(self.deviations))
        return f"| {self.images:,} | {self.seeds} | {deviations} | {self.alike:g} "


@dataclass(frozen=True)
class Shares:
    """Of all comparisons, in percent."""

    covered: float
    claimed: float
    """One-sided at 5 %: a difference above the true one, which is wrong."""
    found: float
    """One-sided at 5 %: a difference above the true one less 0.2 points, which is right."""
    by_satterthwaite: float
    """Covered by an interval with Satterthwaite's degrees of freedom instead."""


def measure(case: Case, replicates: int, generator: np.random.Generator) -> Shares:
    outcomes = []
    for _ in range(replicates):
        seen, truth = case.compare_once(generator)
        low, high = seen.interval(0.95)
        reach = satterthwaite_quantile(seen, 0.025) * seen.standard_error
        outcomes.append(
            (
                low <= truth <= high,
                seen.exceeds(truth),
                seen.exceeds(truth - 0.002),
                abs(seen.difference - truth) <= reach,
            )
        )
    return Shares(*(100 * share for share in np.mean(outcomes, axis=0)))


def satterthwaite_quantile(seen: Comparison, tail: float) -> float:
    parts = (seen.image_variance, seen.images - 1), (seen.seed_variance, seen.seed_freedom)
    freedom = (seen.image_variance + seen.seed_variance) ** 2 / sum(part**2 / own for part, own in parts)
    return float(-stdtrit(freedom, tail))


def comparison(replicates: int, generator: np.random.Generator) -> None:
    cases = [
        Case(seeds, (deviation, deviation), alike)
        for alike in (0.9, 0.995)
        for seeds in (2, 3, 5)
        for deviation in (0.0, 0.0005, 0.001, 0.002)
    ]
    cases += [Case(seeds, (0.0005, 0.002), 0.9) for seeds in (2, 3, 5)]
    cases += [Case(3, (0.0005, 0.0005), 0.9, images) for images in (2000, 500, 200)]
    print(f"{replicates:,} comparisons a row; standard error {100 * np.sqrt(0.05 * 0.95 / replicates):.1f} points\n")
    print("| images | seeds | sd of seeds, points | ρ | 95 % covers | by Satterthwaite | 5 % errs | finds 0.2 points |")
    print("|---|---|---|---|---|---|---|---|")
    for case in cases:
        shares = measure(case, replicates, generator)
        print(
            f"{case}| {shares.covered:.1f} | {shares.by_satterthwaite:.1f} | {shares.claimed:.1f} | {shares.found:.0f} |",
            flush=True,
        )


NIGHTS = 10


def replaced(
    first: int, candidates: int, alike: float, fresh_images: bool, generator: np.random.Generator
) -> list[bool]:
    """Whether each night's winner replaced the champion, where all configurations there are have the same expected accuracy.

    The first champion is the best of `first` candidates, by one net each on the images. Each later night chooses the best of
    its own `candidates` in the same way, and compares it with the champion by three new seeds each: on the same images, or on
    `fresh_images` that have chosen nothing.
    """
    shared = generator.standard_normal(2 * IMAGES)
    select = slice(0, IMAGES)
    judge = slice(IMAGES, None) if fresh_images else select

    def seen(configuration: Configuration, seeds: int, part: slice) -> Correct:
        at = Configuration(configuration.images[part], configuration.bias, configuration.spread)
        return at.nets(seeds, generator)

    def winner(among: int) -> Configuration:
        own = generator.standard_normal((among, 2 * IMAGES))
        images = np.sqrt(alike) * shared + np.sqrt(1 - alike) * own
        entered = [Configuration.of(row, ACCURACY, 0.0005) for row in images]
        return max(entered, key=lambda configuration: seen(configuration, 1, select).mean())

    champion, outcomes = winner(first), []
    for _ in range(NIGHTS):
        challenger = winner(candidates)
        better = compare(seen(challenger, 3, judge), seen(champion, 3, judge)).exceeds()
        champion = challenger if better else champion
        outcomes.append(better)
    return outcomes


def champion(replicates: int, generator: np.random.Generator) -> None:
    print(f"Share of wrong replacements in percent, {replicates:,} schedules a row, one-sided 5 %, three seeds\n")
    print(f"| champion, challenger best of | ρ | judged on | first night | night {NIGHTS} | mean of {NIGHTS} nights |")
    print("|---|---|---|---|---|---|")
    for first, candidates in ((1, 1), (4, 4), (1, 4), (1, 12)):
        for alike in (0.9, 0.995):
            for fresh in (False, True) if first == candidates else (False,):
                nights = np.mean(
                    [replaced(first, candidates, alike, fresh, generator) for _ in range(replicates)], axis=0
                )
                judged = "images that chose nothing" if fresh else "the images that chose"
                print(
                    f"| {first}, {candidates} | {alike:g} | {judged} | {100 * nights[0]:.1f} | {100 * nights[-1]:.1f} "
                    f"| {100 * nights.mean():.1f} |",
                    flush=True,
                )


def nets(replicates: int, _generator: np.random.Generator) -> None:
    """Two configurations of one shape on all of MNIST's training images, with the same seeds."""
    import torch

    from tuner.data.idx import read_idx
    from tuner.data.installation import MNIST_FILES, PACKAGED_MNIST
    from tuner.data.splits import partition
    from tuner.nets.training import train
    from tuner.nets.training_data import prepare
    from tuner.nets.weights import to_bytes
    from tuner.specs.hyperparameters import Hyperparameters
    from tuner.store.model_files import StoredNet

    torch.set_num_threads(1)
    images, labels = (read_idx(PACKAGED_MNIST / MNIST_FILES[part]) for part in ("train_images", "train_labels"))
    at = partition(labels)
    data = prepare(images[at.train], labels[at.train], images[at.validation], labels[at.validation])

    def right(point: Hyperparameters, seed: int) -> Correct:
        net = train(point, data, classes=10, epochs=5, seed=seed, decay=True, last=True).net
        answers = StoredNet.from_bytes(to_bytes(net), point.activation).predict(images[at.validation])
        return np.asarray(answers.argmax(axis=1) == labels[at.validation])

    points = Hyperparameters(), Hyperparameters(learning_rate=1.5e-3, dropout=0.05)
    first, second = (np.array([right(point, 1000 + k) for k in range(replicates)]) for point in points)
    for name, rows in (("first", first), ("second", second)):
        spread = 100 * rows.mean(axis=1).std(ddof=1)
        by_images = 100 * np.sqrt(residual_mean_square(rows) / len(at.validation))
        print(
            f"{name}: accuracy {rows.mean():.4f}, sd over seeds {spread:.3f} points, of these images alone {by_images:.3f}"
        )
    apart = np.mean([[(one != other).mean() for other in first] for one in first]) * replicates / (replicates - 1)
    print(f"two seeds of the first differ on {100 * apart:.2f} % of the images")
    between = np.array([[(one != other).mean() for other in second] for one in first])
    same = np.diag(between).mean()
    others = (between.sum() - np.trace(between)) / (between.size - replicates)
    print(f"first and second with the same seed on {100 * same:.2f} %, with two seeds on {100 * others:.2f} %")


@dataclass(frozen=True)
class Ranking:
    """Configurations whose values in search and rung follow from a shared merit."""

    trials: int
    climbing: int
    noise: float
    """Of a value, beside a merit that spreads by 1."""
    grain: float
    """Values are whole multiples of it, as shares of images are; 0: they are not."""
    skewed: bool = False
    """Whether merit has a long tail of bad configurations, as searches have, instead of being normal."""

    def draw(self, generator: np.random.Generator) -> tuple[Array, Array]:
        """Values in search and rung of those that climb: the search's best."""
        size = self.trials
        merit = -generator.gamma(2.0, 1.0, size) if self.skewed else generator.standard_normal(size)
        search, rung = (merit + self.noise * generator.standard_normal(size) for _ in range(2))
        if self.grain:
            search, rung = (np.round(values / self.grain) * self.grain for values in (search, rung))
        best = np.argsort(-search)[: self.climbing]
        return search[best], rung[best]


def tau(replicates: int, generator: np.random.Generator) -> None:
    """The truth is the mean τ of such rungs."""
    cases = [
        Ranking(trials, climbing, noise, grain, skewed)
        for trials, climbing in ((12, 12), (60, 12), (60, 20), (60, 8))
        for noise, grain, skewed in ((0.2, 0.1, True), (0.5, 0.1, True), (0.5, 0.0, False), (5.0, 0.1, True))
    ]
    print(f"{replicates:,} rungs a row; standard error {100 * np.sqrt(0.05 * 0.95 / replicates):.1f} points\n")
    print("| trials | climbing | noise | merit | true τ | 95 % covers | mean width | below the gate |")
    print("|---|---|---|---|---|---|---|---|")
    for case in cases:
        seen = [kendall(*case.draw(generator)) for _ in range(replicates)]
        more = [kendall(*case.draw(generator)).tau for _ in range(2 * replicates)]
        truth = np.mean([value for value in [*more, *(one.tau for one in seen)] if value is not None])
        covered = 100 * np.mean([one.low <= truth <= one.high for one in seen])
        width, below = np.mean([one.high - one.low for one in seen]), 100 * np.mean([one.high < GATE for one in seen])
        merit = "long tail" if case.skewed else "normal"
        print(
            f"| {case.trials} | {case.climbing} | {case.noise:g} | {merit} | {truth:.2f} | {covered:.1f} | {width:.2f} "
            f"| {below:.1f} |",
            flush=True,
        )


@dataclass(frozen=True)
class Studies:
    """Default studies: 60 trials, a rung of a dozen, a race of the best three and the default configuration.

    Accuracies on the subset, in the rung and on all images spread by 1.2, 0.6 and 0.2 points around 0.94, 0.958 and 0.985, as in
    the default study with seed 3, and correlate by 0.9: that is a τ of 0.71, as measured before anything was built.
    """

    spread: float
    """Of the expected accuracies on all images; 0: all configurations are equal, the default with them."""
    default: tuple[float, float]
    """Range of the default's expected accuracy."""
    alike: float
    race_seeds: int
    seeds: int
    """Of the verdict."""
    deviation: float = 0.0005
    trials: int = 60
    climbing: int = 12
    top_k: int = 3

    def select(self, generator: np.random.Generator) -> "Selected":
        merit, sub, again = generator.standard_normal((3, self.trials))
        alike = np.sqrt(1 - 0.9**2)
        full = np.clip(ACCURACY + self.spread * merit, 0.5, 0.998)
        search = binomial_share(0.94 + 0.012 * (0.9 * merit + alike * sub), 2000, generator)
        rung = binomial_share(0.958 + 0.006 * (0.9 * merit + alike * again), 2000, generator)
        by_search = np.argsort(-search, kind="stable")
        climbing = by_search[: self.climbing]
        widened = kendall(search[climbing], rung[climbing]).high < GATE
        climbing = by_search[: 2 * self.climbing] if widened else climbing
        promoted = climbing[np.argsort(-rung[climbing], kind="stable")][: self.top_k]
        truth = [*full[promoted], float(generator.uniform(*self.default))]
        validation, test = (
            [Configuration.of(row, share, self.deviation) for row, share in zip(images, truth, strict=True)]
            for images in (difficulties(len(truth), IMAGES, self.alike, generator) for _ in range(2))
        )
        names = [*(f"trial-{number}" for number in promoted), "default"]
        sizes = {name: int(generator.integers(50_000, 2_000_000)) for name in names[:-1]} | {"default": 118_282}
        race = Race(sizes, self.race_seeds)
        while race.ended is None:
            race.add({name: validation[names.index(name)].nets(1, generator)[0] for name in race.running})
        winner = names.index(race.winner())
        ours = test[winner].nets(self.seeds, generator)
        default = None if names[winner] == "default" else test[-1].nets(self.seeds, generator)
        gain = weigh(ours, default, fresh=True)
        best = max(range(len(names)), key=lambda k: test[k].accuracy)
        return Selected(
            gain,
            test[winner].accuracy - test[-1].accuracy,
            test[best].accuracy - test[winner].accuracy,
            names[winner] == "default",
            names[best] in race.dropped,
            sum(map(len, race.nets.values())),
        )


@dataclass(frozen=True)
class Selected:
    gain: Gain
    truth: float
    """The gain's."""
    regret: float
    """How much better the best in the race is than its winner."""
    kept_default: bool
    dropped_best: bool
    runs: int
    """Of the race."""

    @property
    def covered(self) -> bool:
        assert self.gain.interval is not None
        low, high = self.gain.interval
        return low <= self.truth <= high


def binomial_share(expected: Array, images: int, generator: np.random.Generator) -> Array:
    return np.asarray(generator.binomial(images, np.clip(expected, 0.0, 1.0)) / images)


def selection(replicates: int, generator: np.random.Generator) -> None:
    """Coverage is told of the studies whose winner is not the default, since the others' gain is 0 and is known to be."""
    equal, varied, near = (0.0, (ACCURACY, ACCURACY)), (0.002, (0.977, 0.988)), (0.0005, (0.984, 0.986))
    print(
        f"{replicates:,} studies a row; standard error of a coverage {100 * np.sqrt(0.05 * 0.95 / replicates):.1f} points\n"
    )
    print(
        "| configurations | ρ | seeds of race, verdict | 95 % of the gain covers | claims better | claims worse "
        "| keeps the default | drops the best | regret, points | runs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, (spread, default) in (("equal", equal), ("varied", varied), ("nearly equal", near)):
        for alike in (0.9, 0.95, 0.995):
            for race_seeds, seeds in ((1, 2), (2, 2), (3, 3), (1, 1)) if alike == 0.95 else ((3, 3),):
                studies = Studies(spread, default, alike, race_seeds, seeds)
                found = [studies.select(generator) for _ in range(replicates)]
                judged = [one.covered for one in found if not one.kept_default]
                claims = [100 * np.mean([one.gain.verdict == word for one in found]) for word in ("better", "worse")]
                print(
                    f"| {name} | {alike:g} | {race_seeds}, {seeds} | {100 * np.mean(judged):.1f} "
                    f"| {claims[0]:.1f} | {claims[1]:.1f} | {100 * np.mean([one.kept_default for one in found]):.0f} "
                    f"| {100 * np.mean([one.dropped_best for one in found]):.1f} "
                    f"| {100 * np.mean([one.regret for one in found]):.3f} | {np.mean([one.runs for one in found]):.1f} |",
                    flush=True,
                )


PARTS: dict[str, Callable[[int, np.random.Generator], None]] = {
    "comparison": comparison,
    "champion": champion,
    "nets": nets,
    "tau": tau,
    "selection": selection,
}


REPLICATES = {"comparison": 4000, "champion": 2000, "nets": 14, "tau": 4000, "selection": 2000}


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the service's statistics are right")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--replicates", type=int, help="worlds a row, by default 4,000 or 2,000; seeds of the nets: 14")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    replicates = arguments.replicates or REPLICATES[arguments.part]
    PARTS[arguments.part](replicates, np.random.Generator(np.random.PCG64(arguments.seed)))


if __name__ == "__main__":
    main()
