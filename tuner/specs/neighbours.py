"""The configurations beside one that more data may want otherwise."""

from collections.abc import Mapping

from tuner.errors import InvalidInput
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace, Value

CHANGES = (7, 6, 5, 8, 3, 9, 2, 1)
"""What has helped most comes first. A change's number names its runs, and so stays."""

WIDE = 256
"""Units that pay on more images; twice as many hardly do, for twice the time (docs/decisions.md)."""


def changes(point: Hyperparameters, space: SearchSpace) -> dict[int, Hyperparameters]:
    """The points of `space` that differ from `point` by one change, by its number; what the user has fixed stays.

    More images need less that holds a net back, and bear wider ones. Which activation, loss, depth and moving of images go
    together, a search of few trials on few images is seldom sure of.
    """
    found: dict[int, Hyperparameters] = {}
    for change in CHANGES:
        other = changed(point, space, (change,))
        if other is not None and other != point and other not in found.values():
            found[change] = other
    return found


def changed(point: Hyperparameters, space: SearchSpace, numbers: tuple[int, ...]) -> Hyperparameters | None:
    """`point` with all of these changes; what the user has fixed stays. None where `space` has no such point."""
    wanted = {**point.model_dump(), **{name: v for number in numbers for name, v in _told(point)[number].items()}}
    values = {name: value for name, value in wanted.items() if value is not None and space.varies(name)}
    try:
        return space.complete(values)
    except InvalidInput:
        return None


def alternatives(point: Hyperparameters, one: int, other: int) -> bool:
    """Whether two changes are of the same hyperparameter, so that they cannot both be made."""
    told = _told(point)
    return not told[one].keys().isdisjoint(told[other])


def _told(point: Hyperparameters) -> dict[int, Mapping[str, Value]]:
    # Maxout is as good on more images, for twice the time: it is kept where it was found.
    rectified = point.activation if point.activation == "maxout" else "relu"
    return {
        1: {"shift_pixels": 1},
        2: {"depth": point.depth - 1},
        3: {"dropout": point.dropout / 2},
        5: {"shift_pixels": 1, "rotate_degrees": 10.0, "zoom": 0.1},
        6: {"batch_norm": True, "loss": "cross_entropy"},
        7: {"activation": rectified, "batch_norm": True, "loss": "cross_entropy"},
        8: {"width": max(WIDE, point.width)},
        9: {"depth": point.depth + 1},
    }
