"""Bagging (Breiman 1996): nets trained on bootstrap samples, and the average of what they say. It needs no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from tuner.errors import DamagedData

Probabilities = NDArray[np.floating[Any]]


def bootstrap(count: int, seed: int) -> NDArray[np.int64]:
    """Positions (count,) among `count` images, drawn with replacement; the same for the same seed."""
    return np.random.Generator(np.random.PCG64(seed)).integers(0, count, count)


def select(members: Sequence[Probabilities], labels: NDArray[Any], most: int) -> list[int]:
    """Greedy selection with replacement (Caruana et al. 2004): the positions of at most `most` `members`, one after another.

    Each is the one that makes the average's cross-entropy on `labels` (images,) the lowest; of all beginnings of that row the
    best one is the answer, of equal ones the shortest. Accuracy, which moves by whole images, would fit the chance of these.
    """
    total = np.zeros_like(members[0], dtype=np.float64)
    chosen: list[int] = []
    best, length = np.inf, 0
    for turn in range(1, most + 1):
        losses = [cross_entropy((total + member) / turn, labels) for member in members]
        pick = int(np.argmin(losses))
        total += members[pick]
        chosen.append(pick)
        if losses[pick] < best:
            best, length = losses[pick], turn
    return chosen[:length]


def choose(
    members: Sequence[Probabilities], labels: NDArray[Any], most: int, alike: list[int]
) -> tuple[list[int], bool]:
    """The positions of the better bag, and whether it is a greedy selection of at most `most`, with replacement: else it is
    `alike`. Better is the lower cross-entropy on `labels`, by which the selection was made, too. Neither is a bag that has no two
    different members; [] where there is none."""
    chosen = select(members, labels, most)
    bags = [(bag, bag is chosen) for bag in (alike, chosen) if len(set(bag)) > 1]
    return min(bags, key=lambda one: cross_entropy(average([members[k] for k in one[0]]), labels), default=([], False))


def cross_entropy(probabilities: Probabilities, labels: NDArray[Any]) -> float:
    """The mean over the images of −log of what `probabilities` (images, classes) gives their `labels` (images,)."""
    given = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(given, 1e-12)).mean())


def pack(members: Sequence[Mapping[str, NDArray[Any]]]) -> bytes:
    """One safetensors file of the members' tensors; those of member k have names that begin with `member.k.`."""
    return safetensors.numpy.save(
        {f"member.{k}.{name}": tensor for k, tensors in enumerate(members) for name, tensor in tensors.items()}
    )


def unpack(weights: bytes, count: int) -> list[dict[str, NDArray[Any]]]:
    """The tensors of `count` members. Raises DamagedData where `weights` is no file of so many."""
    try:
        packed = safetensors.numpy.load(weights)
    except SafetensorError as error:
        raise DamagedData(f"weights must be a safetensors file, but reading says: {error}") from error
    members: list[dict[str, NDArray[Any]]] = [{} for _ in range(count)]
    for k, tensors in enumerate(members):
        prefix = f"member.{k}."
        tensors.update({name.removeprefix(prefix): packed[name] for name in packed if name.startswith(prefix)})
    if not all(members):
        raise DamagedData(f"a bag of {count} must have weights of each member, but one has none")
    return members


def average(members: Sequence[Probabilities]) -> Probabilities:
    """The bag's class probabilities (images, classes) from those of each member; a bag of one says what its member says."""
    if not members:
        raise ValueError("a bag has at least one member")
    mean: Probabilities = np.mean(members, axis=0)
    return mean
