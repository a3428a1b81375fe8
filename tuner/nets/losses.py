"""What training minimises: functions of logits (batch, classes) and labels (batch,), mean over the batch."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from tuner.specs.hyperparameters import Loss


def mse(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of the softmax outputs from the one-hot label, summed over the classes: 0 to 2 (Brier 1950).

    The sum, not Keras's mean over the classes: so the learning rate's scale does not depend on their number.
    """
    probabilities = logits.softmax(1)
    target = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return (probabilities - target).square().sum(1).mean()


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "cross_entropy": F.cross_entropy}
