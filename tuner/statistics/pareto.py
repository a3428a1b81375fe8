"""What no other point is better than in every respect."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def on_front(costs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Of points (count, axes), each axis the lower the better: whether no other one is as good in all and better in one.

    Equal points are on the front together. A point with a NaN is not on it.
    """
    front: NDArray[np.bool_] = ~np.isnan(costs).any(axis=1)
    for k in np.lexsort(costs.T[::-1]):  # one that dominates another comes before it
        if front[k]:
            worse = (costs >= costs[k]).all(axis=1) & (costs > costs[k]).any(axis=1)
            front &= ~worse
    return front
