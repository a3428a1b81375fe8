"""The configurations beside one that more data may want otherwise, in one respect at a time."""

from tuner.specs.hyperparameters import MOVING, Hyperparameters
from tuner.specs.search_space import SearchSpace

CHANGED: dict[int, tuple[str, ...]] = {
    1: ("shift_pixels",),
    5: MOVING,
    2: ("depth",),
    3: ("dropout",),
    4: ("learning_rate",),
}
"""The hyperparameters of each change, by its number, which names its runs and so stays. What has helped most comes first."""


def neighbours(point: Hyperparameters, space: SearchSpace) -> dict[int, Hyperparameters]:
    """Those that `space` has, by the number of the change by which each differs from `point`; what the user has fixed stays.

    More images need less that holds a net back, and allow smaller steps, since there are more of them. How images are to be
    moved, and whether the last layer helps, a search of few trials on few images is seldom sure of.
    """
    moved = {
        "shift_pixels": 1,
        "rotate_degrees": 10.0,
        "zoom": 0.1,
        "depth": max(1, point.depth - 1),
        "dropout": point.dropout / 2,
        "learning_rate": point.learning_rate / 2,
    }
    found: dict[int, Hyperparameters] = {}
    for change, names in CHANGED.items():
        other = point.model_copy(update={name: moved[name] for name in names if space.varies(name)})
        if other != point and other not in found.values() and space.params(other) is not None:
            found[change] = other
    return found
