"""Distillation (Hinton, Vinyals & Dean 2015): a student learns what its teacher says of each image, beside the label."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class SoftTargets:
    """What the teacher says of the training images, and how much it counts."""

    probabilities: Tensor  # (count, classes), in the order of the training images
    temperature: float
    weight: float
    """0: the labels alone; 1: the teacher alone."""


def distilled(hard: Tensor, logits: Tensor, probabilities: Tensor, targets: SoftTargets) -> Tensor:
    """(1 − w)·`hard` + w·T²·soft, where soft is the cross-entropy of teacher and student, both at temperature T.

    `logits` and the teacher's `probabilities` are (batch, classes). T² keeps the gradient's size while T grows. The logarithms of
    averaged probabilities are taken as the teacher's logits, since a bag has none of its own.
    """
    temperature = targets.temperature
    teacher = (probabilities.clamp_min(1e-12).log() / temperature).softmax(1)
    soft = F.cross_entropy(logits / temperature, teacher)
    return (1 - targets.weight) * hard + targets.weight * temperature**2 * soft
