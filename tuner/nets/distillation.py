"""Distillation (Hinton, Vinyals & Dean 2015): a student learns what its teacher says of each image, beside the label.

The teacher is asked for the very images that the student sees, shifted as they are (Beyer et al. 2022: a good teacher is
consistent); of images that it was asked for before, it would speak of another image than the student's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.nets.mlp import MLP


@dataclass(frozen=True)
class Lessons:
    """A bag of nets that teaches, and how much it counts."""

    nets: Sequence[MLP]
    """In evaluation mode."""
    votes: Sequence[int]
    temperature: float
    weight: float
    """0: the labels alone; 1: the teacher alone."""

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """(batch, classes), of raw images (batch, inputs)."""
        said = [votes * net(images).softmax(1) for net, votes in zip(self.nets, self.votes, strict=True)]
        return torch.stack(said).sum(0) / sum(self.votes)


def distilled(hard: Tensor, logits: Tensor, probabilities: Tensor, lessons: Lessons) -> Tensor:
    """(1 − w)·`hard` + w·T²·soft, where soft is the cross-entropy of teacher and student, both at temperature T.

    `logits` and the teacher's `probabilities` are (batch, classes). T² keeps the gradient's size while T grows. The logarithms of
    averaged probabilities are taken as the teacher's logits, since a bag has none of its own.
    """
    temperature = lessons.temperature
    teacher = (probabilities.clamp_min(1e-12).log() / temperature).softmax(1)
    soft = F.cross_entropy(logits / temperature, teacher)
    return (1 - lessons.weight) * hard + lessons.weight * temperature**2 * soft
