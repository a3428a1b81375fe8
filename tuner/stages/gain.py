"""What the opened test set says of the winner: its gain over the default configuration, in numbers and in words."""

from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from tuner.specs.verdict import Accuracy, Gain
from tuner.statistics.comparison import Comparison, Correct, compare, compare_nets

CONFIDENCE = 0.95


def wilson(right: NDArray[np.bool_]) -> Accuracy:
    """Of one net, which has `right` (images,)."""
    correct, images = int(right.sum()), len(right)
    interval = scipy.stats.binomtest(correct, images).proportion_ci(CONFIDENCE, method="wilson")
    return Accuracy(value=correct / images, interval=(interval.low, interval.high), correct=correct, images=images)


def weigh(winner: Correct, default: Correct | None, fresh: bool) -> Gain:
    """What winner and default, each (seeds, images), have shown on the test images; None: the default is the winner."""
    seeds, images = winner.shape
    rival = winner if default is None else default
    seen = None if default is None else _compare(winner, default)
    low, high = (0.0, 0.0) if seen is None else seen.interval(CONFIDENCE)
    verdict: Literal["better", "not worth it", "worse"] = (
        "better" if low > 0 else "worse" if high < 0 else "not worth it"
    )
    return Gain(
        over_default=0.0 if seen is None else seen.difference,
        interval=(low, high),
        verdict=verdict,
        seeds=seeds,
        fresh=fresh,
        images=images,
        basis="images and seeds" if seeds > 1 else "images",
        winner_accuracy=float(winner.mean()),
        default_accuracy=float(rival.mean()),
        words=_in_words(seen, (low, high), verdict, fresh),
    )


def _compare(winner: Correct, default: Correct) -> Comparison:
    return compare(winner, default) if len(winner) > 1 else compare_nets(winner[0], default[0])


def _in_words(seen: Comparison | None, interval: tuple[float, float], verdict: str, fresh: bool) -> str:
    if seen is None:
        return "not worth it: the default configuration has won the race"
    low, high = (100 * end for end in interval)
    words = f"{verdict}: {100 * seen.difference:+.2f} points over the default, 95 % interval {low:+.2f} to {high:+.2f}"
    if verdict == "not worth it":
        words += ", which contains zero"
    if seen.seeds == 1:
        words += "; with a single seed this tells of other images, not of other seeds"
    if not fresh:
        words += "; these are the race's own nets, which have chosen the winner: there was no time for fresh seeds"
    return words


def untold(winner: Correct, fresh: bool) -> Gain:
    """Where no net of the default configuration reached its end."""
    seeds, images = winner.shape
    return Gain(
        over_default=None,
        interval=None,
        verdict="unknown",
        seeds=seeds,
        fresh=fresh,
        images=images,
        basis="images and seeds" if seeds > 1 else "images",
        winner_accuracy=float(winner.mean()),
        default_accuracy=None,
        words="unknown: no net of the default configuration reached its end",
    )
