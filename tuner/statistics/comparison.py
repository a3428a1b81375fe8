"""Two configurations, trained with the same few seeds and judged on the same images: which is better, and how sure is that?

The estimand is the difference of two expected accuracies, over the seeds one might draw and over the images of the distribution,
not over the seeds and images at hand. Both are crossed: every net of a configuration sees every image. With y[c, r, i] = 1 where
the net of configuration c and seed r has image i right,

    y[c, r, i] = μ[c] + image[c, i] + seed[c, r] + rest[c, r, i]          (two-way random effects for each c)

where images are harder or easier for both configurations alike, seeds vary within a configuration, and the rest is what a seed
makes of a single image. The mean over R seeds and N images, and so the difference D of two such means, varies by

    Var D = Var(image difference) / N  +  2 Var(seed) / R  +  2 Var(rest) / (R N)

As in the analysis of several readers who read the same cases (Obuchowski & Rockette 1995; Hillis 2014, for readers nested in
tests), mean squares estimate it without bias:

* the scatter over the images of (contender − rival, averaged over the seeds), over N: Var(image difference)/N + 2 Var(rest)/(RN);
* the scatter of each configuration's accuracies over its seeds, over R, for both: 2 Var(seed)/R + 2 Var(rest)/(RN);
* so the last term is in both and is taken out once, by the residual mean square.

Simply adding the first two counts the rest twice (Owen 2007, on resampling both ways); and the rest is large, most of the
spread between accuracies on one set of images (Jordan 2024). The images' part gets 1/N² on top, what half an image more in
either direction would add (Agresti & Min 2005): where hardly an image tells two configurations apart, the variances may
all come out as 0, and nothing is that certain.

The images' part rests on thousands of images, the seeds' part on a handful of seeds. Its degrees of freedom are R − 1 for every
configuration whose seeds are pooled, which takes their variances to be alike. The statistic D / √(Var D) is then of the kind of
Behrens and Fisher, and its quantile is Cochran's (1964): the mean of Student's quantiles of both parts, weighted by the
parts. Satterthwaite's degrees of freedom, as Hillis takes them, trust a seeds' part that came out small by luck: with two
seeds a 95 % interval then covers 92 %. `benchmarks/calibration.py` measures both.

A seed's nets of two configurations of the same shape start from the same weights and tend to agree; they are treated as if
they did not, which is safe: the interval is too wide then, not too narrow.

* Agresti, A. & Min, Y. (2005). Simple improved confidence intervals for … matched proportions. Stat. in Medicine 24, 729–740.
* Cochran, W. G. (1964). Approximate significance levels of the Behrens–Fisher test. Biometrics 20, 191–195.
* Hillis, S. L. (2007). A comparison of denominator degrees of freedom methods … Statistics in Medicine 26, 596–619.
* Hillis, S. L. (2014). A marginal-mean ANOVA approach … multireader multicase … Statistics in Medicine 33, 330–360.
* Jordan, K. (2024). On the variance of neural network training with respect to test sets and distributions. ICLR.
* Obuchowski, N. A. & Rockette, H. E. (1995). Hypothesis testing of diagnostic accuracy … Comm. Stat. Simul. 24, 285–308.
* Owen, A. B. (2007). The pigeonhole bootstrap. Annals of Applied Statistics 1, 386–411.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Correct = NDArray[np.bool_]
"""(seeds, images): whether the net of that seed has that image right."""

SMALLEST_TAIL = 1e-30
"""A probability below this is given as 0."""

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Comparison:
    """What is known of the contender's expected accuracy minus the rival's, both between 0 and 1."""

    difference: float
    """As seen: of the mean accuracies over these seeds and images."""
    image_variance: float
    """Of the difference, because other images might have been drawn; it has `images` − 1 degrees of freedom."""
    seed_variance: float
    """Of the difference, because other seeds might have been drawn; it has `seed_freedom` degrees of freedom."""
    images: int
    seeds: int
    seed_freedom: int

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(self.image_variance + self.seed_variance))

    def reversed(self) -> "Comparison":
        """The rival against the contender."""
        return replace(self, difference=-self.difference)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Holds the true difference in a share of `level` of all comparisons."""
        reach = self._quantile((1 - level) / 2) * self.standard_error
        return self.difference - reach, self.difference + reach

    def p_value(self, margin: float = 0.0) -> float:
        """One-sided: how often chance alone shows a difference as large as this one where the true one is `margin`.

        Superiority is asked with a margin of 0; a contender that may be worse by 0.1 points, but no more, with −0.001.
        """
        excess = self.difference - margin
        tail = self._tail(abs(excess) / self.standard_error)
        return tail if excess > 0 else 1 - tail

    def exceeds(self, margin: float = 0.0, error: float = 0.05) -> bool:
        """Whether the difference is above `margin`, said wrongly in at most a share of `error` of all comparisons."""
        return self.difference - margin >= self._quantile(error) * self.standard_error

    def _quantile(self, tail: float) -> float:
        """What the difference, in standard errors, exceeds with probability `tail` if the true one is 0: Cochran's."""
        weight = self.seed_variance / (self.image_variance + self.seed_variance)
        of_seeds, of_images = (
            -scipy.special.stdtrit(self.seed_freedom, tail),
            -scipy.special.stdtrit(self.images - 1, tail),
        )
        return float(weight * of_seeds + (1 - weight) * of_images)

    def _tail(self, statistic: float) -> float:
        """The inverse of `_quantile`, for a statistic of 0 or more."""
        if statistic >= self._quantile(SMALLEST_TAIL):
            return 0.0
        return float(
            scipy.optimize.brentq(lambda tail: self._quantile(tail) - statistic, SMALLEST_TAIL, 0.5 + 1e-9, xtol=1e-12)
        )


def compare(contender: Correct, rival: Correct, others: Sequence[Correct] = ()) -> Comparison:
    """`contender` against `rival`; the seed variance is pooled over them and `others`, which saw the same images.

    Rows of one seed stand in the same place. Raises ValueError for arrays of other shapes, fewer than two seeds or two images.
    """
    _check(contender, rival, others)
    seeds, images = contender.shape
    per_image = contender.mean(axis=0) - rival.mean(axis=0)
    scatter = float(per_image.var(ddof=1)) / images
    rest = (residual_mean_square(contender) + residual_mean_square(rival)) / (seeds * images)
    pooled = [contender, rival, *others]
    freedom = sum(len(correct) - 1 for correct in pooled)
    seed_squares = sum(float(correct.mean(axis=1).var(ddof=1)) * (len(correct) - 1) for correct in pooled)
    return Comparison(
        difference=float(per_image.mean()),
        image_variance=max(scatter - rest, 0.0) + 1 / images**2,
        seed_variance=2 * seed_squares / freedom / seeds,
        images=images,
        seeds=seeds,
        seed_freedom=freedom,
    )


def compare_nets(contender: NDArray[np.bool_], rival: NDArray[np.bool_]) -> Comparison:
    """Two single nets on the same images, each (images,): what is said of them rests on the images alone, and not on seeds."""
    images = len(contender)
    difference = contender.astype(float) - rival
    return Comparison(
        difference=float(difference.mean()),
        image_variance=float(difference.var(ddof=1)) / images + 1 / images**2,
        seed_variance=0.0,
        images=images,
        seeds=1,
        seed_freedom=images - 1,
    )


def are_apart(first: float, second: float, images: int) -> bool:
    """Whether two accuracies on as many images differ by more than other images would explain, were they different for both: seen
    on the same images, which is all that is known here, they are apart somewhat earlier. Of seeds it knows nothing."""
    variance = (first * (1 - first) + second * (1 - second)) / images
    return bool(abs(first - second) > -scipy.special.stdtrit(max(1, images - 1), 0.025) * np.sqrt(variance))


def residual_mean_square(correct: Correct) -> float:
    """Of the entries of `correct`: what neither the seed nor the image explains."""
    seeds, images = correct.shape
    explained: Array = correct.mean(axis=0) + correct.mean(axis=1, keepdims=True) - correct.mean()
    return float(np.square(correct - explained).sum() / ((seeds - 1) * (images - 1)))


def _check(contender: Correct, rival: Correct, others: Sequence[Correct]) -> None:
    if contender.ndim != 2 or contender.shape != rival.shape:
        raise ValueError(
            f"contender and rival must be (seeds, images) alike, but got {contender.shape} and {rival.shape}"
        )
    seeds, images = contender.shape
    if seeds < 2 or images < 2:
        raise ValueError(f"a comparison takes at least two seeds and two images, but got {seeds} and {images}")
    for other in others:
        if other.ndim != 2 or other.shape[1] != images or len(other) < 2:
            raise ValueError(f"others must have at least two seeds on the same {images} images, but got {other.shape}")
