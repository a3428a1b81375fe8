"""The configurations beside one that more data may want otherwise."""

from collections.abc import Mapping

from tuner.specs.hyperparameters import Hyperparameters, Optimizer
from tuner.specs.search_space import SearchSpace, Value

CHANGES = (10, 7, 6, 5, 8, 3, 1)
"""What has helped most comes first. A change's number names its runs, and so stays; 2, 4 and 9 were others, which hardly helped
(docs/decisions.md). No two of them want the same hyperparameter otherwise, so that any can be made together."""

WIDE = 256
"""Units that pay on more images; twice as many hardly do, for twice the time (docs/decisions.md)."""

RATES: dict[Optimizer, float] = {"adam": 1e-2, "rmsprop": 3e-3, "momentum": 0.1, "sgd": 0.5}
"""High learning rates, which batch normalisation bears; the optimizer that is preferred comes first (docs/decisions.md)."""


def changes(point: Hyperparameters, space: SearchSpace) -> dict[int, Hyperparameters]:
    """The points of `space` that differ from `point` by one change; what the user has fixed stays.

    More images need less that holds a net back, and bear wider ones. Which optimizer, rate, activation, loss, depth and moving of
    images go together, a search of few trials on few images is seldom sure of.
    """
    found: dict[int, Hyperparameters] = {}
    for change in CHANGES:
        other = changed(point, space, (change,))
        if other is not None and other != point and other not in found.values():
            found[change] = other
    return found


def changed(point: Hyperparameters, space: SearchSpace, numbers: tuple[int, ...]) -> Hyperparameters | None:
    """`point` with all of these changes; what the user has fixed stays. None where `space` has no such point."""
    wanted = _overrides(point, space)
    return space.near(point, {name: value for number in numbers for name, value in wanted[number].items()})


def usual(space: SearchSpace) -> Hyperparameters | None:
    """The default configuration with what mostly helps, and small batches, which bring a search's few epochs further; what the
    user has fixed stays. None where `space` has no such point."""
    default = space.default()
    wanted = _overrides(default, space)
    return space.near(default, {**wanted[5], **wanted[8], **wanted[10], "batch_size": 64})


def _overrides(point: Hyperparameters, space: SearchSpace) -> dict[int, Mapping[str, Value]]:
    """Of each change, by its number."""
    # Maxout is as good on more images, for twice the time: it is kept where it was found.
    rectified = point.activation if point.activation == "maxout" else "relu"
    normalised: dict[str, Value] = {"batch_norm": True, "loss": "cross_entropy"}
    optimizer = next(name for name in RATES if name in space.values("optimizer"))
    fast: dict[str, Value] = {"optimizer": optimizer, "learning_rate": RATES[optimizer], **normalised}
    return {
        1: {"shift_pixels": 1},
        3: {"dropout": point.dropout / 2},
        5: {"shift_pixels": 1, "rotate_degrees": 10.0, "zoom": 0.1},
        6: normalised,
        7: {"activation": rectified, **normalised},
        8: {"width": max(WIDE, point.width)},
        10: fast if True in space.values("batch_norm") else {},
    }
