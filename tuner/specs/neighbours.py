"""The configurations beside one that more data may want otherwise, in one hyperparameter at a time."""

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace

MOST_NEIGHBOURS = 4


def neighbours(point: Hyperparameters, space: SearchSpace) -> list[Hyperparameters]:
    """Those that `space` has: each differs from `point` in shift_pixels, dropout, learning_rate or depth.

    More images need less that holds a net back, and allow smaller steps, since there are more of them; of the shifts and the last
    layer a search of few trials on few images is seldom sure.
    """
    changes: list[dict[str, float]] = [
        {"shift_pixels": 1},
        {"dropout": point.dropout / 2},
        {"learning_rate": point.learning_rate / 2},
        {"depth": max(1, point.depth - 1)},
    ]
    beside = [point.model_copy(update=change) for change in changes]
    return [other for other in beside if other != point and space.params(other) is not None]
