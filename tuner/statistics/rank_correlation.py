"""Kendall's τ of a few configurations, judged twice: do both judge alike, and how sure is that?

τ-b counts pairs that both orders agree on, less those they disagree on, and takes tied pairs out of both. Its interval lies
symmetric around z = artanh τ. The standard error is the larger of two:

* the jackknife's, of each configuration's share of agreeing pairs (τ is a U-statistic: Noether 1967, Hollander & Wolfe 1999),
  over 1 − τ² for z, with Student's t of n − 2 degrees of freedom;
* √(0.437 / (n − 4)), Fieller, Hartley & Pearson's (1957) for z of normal variables, with the normal quantile.

With a dozen configurations the first alone may come out as 0 by luck, as it does at τ = 1; the second alone covers 78 to 93 %
where τ is large. `benchmarks/calibration.py tau` measures both.

* Fieller, E. C., Hartley, H. O. & Pearson, E. S. (1957). Tests for rank correlation coefficients I. Biometrika 44, 470–481.
* Hollander, M. & Wolfe, D. A. (1999). Nonparametric Statistical Methods, 2nd ed., section 8.3.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

TAIL = 0.025

FEWEST = 5
"""With fewer, nothing can be said of τ."""

FIELLER = 0.437

NORMAL_FREEDOM = 1e9


@dataclass(frozen=True)
class RankCorrelation:
    tau: float | None
    """None where all values of one side are tied, or there are fewer than two."""
    low: float
    high: float
    """Of the interval; −1 and 1 where nothing can be said."""


def kendall(first: Array, second: Array) -> RankCorrelation:
    """τ-b of paired values, both (configurations,), with its 95 % interval."""
    count = len(first)
    agreement, untied = _pairs(first, second)
    if untied == 0:
        return RankCorrelation(None, -1.0, 1.0)
    tau = float(agreement.sum() / untied)
    if count < FEWEST:
        return RankCorrelation(tau, -1.0, 1.0)
    # Where every pair agrees, z is infinite; one disagreement in all pairs is the next that could have been seen.
    edge = 1 - 2 / (count * (count - 1) / 2)
    z, slope = np.arctanh(np.clip(tau, -edge, edge)), 1 - np.clip(tau, -edge, edge) ** 2
    shares = agreement.sum(axis=1) / (count - 1)
    jackknife = np.sqrt(4 * (count - 1) / (count * (count - 2)) * shares.var(ddof=1)) / slope
    reach = max(
        -scipy.special.stdtrit(count - 2, TAIL) * jackknife,
        -scipy.special.stdtrit(NORMAL_FREEDOM, TAIL) * np.sqrt(FIELLER / (count - 4)),
    )
    return RankCorrelation(tau, min(tau, float(np.tanh(z - reach))), max(tau, float(np.tanh(z + reach))))


def _pairs(first: Array, second: Array) -> tuple[Array, float]:
    """(configurations, configurations): 1 where both sides order the two alike, −1 where differently, 0 where one has a tie; and
    what their sum is divided by."""
    one, other = (np.sign(np.subtract.outer(side, side)) for side in (np.asarray(first), np.asarray(second)))
    return one * other, float(np.sqrt((one**2).sum() * (other**2).sum()))
