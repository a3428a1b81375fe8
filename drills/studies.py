"""What the drills have the service do: small studies with everything in them that can be interrupted."""

from random import Random
from typing import Any

Spec = dict[str, Any]

SPACE: dict[str, Any] = {
    "depth": {"low": 1, "high": 2},
    "width": {"low": 16, "high": 48},
    "activation": {"choices": ["tanh", "relu"]},
    "optimizer": {"choices": ["momentum", "adam"]},
    "batch_size": {"choices": [64, 128]},
    "shift_pixels": 0,
    "rotate_degrees": 0,
    "zoom": 0,
}


def searching(name: str, random: Random, *, trials: int = 24) -> Spec:
    """A search of some 0.3 s a trial, with pruning."""
    return {
        "name": name,
        "search_space": SPACE,
        "subset": {"train": 4000, "validation": 1000, "epochs": 4},
        "budget": {"n_trials": trials},
        "promotion": None,
        "seed": random.randrange(2**31),
    }


def promoting(name: str, random: Random, *, trials: int = 8, epochs: int = 3) -> Spec:
    """All stages: search, rung, promotion, ensemble, verdict. Deterministic, so that the whole study has one right outcome."""
    promotion = {"top_k": 2, "max_seeds": 2, "epochs": epochs}
    every = {"promotion": promotion, "ensemble": {"members": 2, "student": True}, "deterministic": True}
    return {**searching(name, random, trials=trials), **every}


def long(name: str, random: Random, *, trials: int = 500) -> Spec:
    """A study that does not end while a drill looks at it; a trial takes seconds."""
    subset = {"train": 40_000, "validation": 2000, "epochs": 5}
    return {**searching(name, random, trials=trials), "subset": subset, "pruner": {"kind": "none"}}


def tiny(name: str, random: Random) -> Spec:
    """Two trials of a tenth of a second: what a schedule posts every few seconds."""
    subset = {"train": 500, "validation": 200, "epochs": 1}
    return {**searching(name, random, trials=2), "subset": subset}
