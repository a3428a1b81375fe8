"""What is the matter with a trained net, if anything."""

from typing import Literal, get_args

from pydantic import Field

from tuner.specs.spec import Spec

FindingName = Literal[
    "diverged",
    "vanishing_gradient",
    "dead_units",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "stopped_too_early",
    "underfit",
    "overfit",
    "healthy",
]
FINDINGS: tuple[FindingName, ...] = get_args(FindingName)


class Evidence(Spec):
    """The number that decided, and what it was held against."""

    measure: str = Field(examples=["gradient_ratio"])
    value: float
    threshold: float
    sentence: str = Field(description="in plain words, with what to do about it")


class Finding(Spec):
    name: FindingName
    evidence: Evidence
