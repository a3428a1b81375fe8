"""A configuration that was found on a part of the data, as it is to be trained on more of it."""

import math

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace

LARGEST_BATCH = 256


def fit(point: Hyperparameters, space: SearchSpace, share: float) -> Hyperparameters:
    """`point`, found on a `share` of the data, as it is to be trained on all of it; what the user has fixed stays.

    * weight_decay is the logarithm of a prior on the weights, and the loss a mean over the images: for the prior to stay the
      same while the images grow more, the penalty shrinks as they grow.
    * batch_size: the noise of a step is proportional to learning_rate × images / batch_size (Smith & Le 2018). Keeping
      it would take ten times the batch for ten times the images, and leave too few steps; so the batch grows as the square root,
      with batch normalisation, by which large steps do no harm, as the power 2/3, in whole powers of two and up to
      LARGEST_BATCH.
    * learning_rate: fewer, less noisy steps bear a higher one where units are normalised: in proportion to the batch (Goyal et
      al. 2017), or to its root where gradients are divided by their size (Malladi et al. 2022).
    """
    changes: dict[str, float] = {}
    if space.varies("weight_decay"):
        changes["weight_decay"] = point.weight_decay * share
    if space.varies("batch_size"):
        power = 2 / 3 if point.batch_norm else 1 / 2
        grown = point.batch_size * 2 ** math.floor(math.log2(1 / share) * power)
        changes["batch_size"] = max(point.batch_size, min(LARGEST_BATCH, grown))
    if point.batch_norm and space.varies("learning_rate"):
        growth = changes.get("batch_size", point.batch_size) / point.batch_size
        power = 1 / 2 if point.optimizer in ("adam", "rmsprop") else 1
        rate = point.learning_rate
        changes["learning_rate"] = space.within_limits("learning_rate", rate * growth**power, rate)
    return point.model_copy(update=changes)
