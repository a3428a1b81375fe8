"""The configurations beside one that more data may want otherwise, in one hyperparameter at a time."""

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace

CHANGED = ("shift_pixels", "depth", "dropout", "learning_rate")
"""What has helped most comes first."""


def neighbours(point: Hyperparameters, space: SearchSpace) -> dict[str, Hyperparameters]:
    """Those that `space` has, by the one of CHANGED in which each differs from `point`.

    More images need less that holds a net back, and allow smaller steps, since there are more of them; of the shifts and the last
    layer a search of few trials on few images is seldom sure.
    """
    moved = {
        "shift_pixels": 1,
        "depth": max(1, point.depth - 1),
        "dropout": point.dropout / 2,
        "learning_rate": point.learning_rate / 2,
    }
    beside = {name: point.model_copy(update={name: moved[name]}) for name in CHANGED}
    return {name: other for name, other in beside.items() if other != point and space.params(other) is not None}
