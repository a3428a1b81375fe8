"""What a study will cost, told before it starts."""

from pydantic import Field

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.spec import Spec


class Timing(Spec):
    """The seconds that one epoch of one net took."""

    hyperparameters: Hyperparameters
    inputs: int = Field(description="pixels of an image")
    classes: int
    train: int = Field(description="images")
    validation: int
    seconds: float = Field(gt=0)


class Estimate(Spec):
    """Of the study's first job, by itself on idle workers; half of the studies take longer than `seconds`."""

    seconds: float
    low: float = Field(description="with `high` an 80 % interval: one study in ten is done sooner")
    high: float = Field(description="one study in ten takes longer")
    search_seconds: float = Field(description="of `seconds`")
    promotion_seconds: float = Field(description="rung, race and verdict; 0 without promotion")
    slots: int = Field(description="trials at once")
    timings: int = Field(description="epochs timed on this installation from which the cost of a step was learned")
    studies: int = Field(description="ended ones whose estimates were held against their time")
    simulated_seconds: float | None = Field(
        None, description="without the correction by these studies, and without the time limit"
    )
    simulated_spread: float | None = Field(
        None,
        description="of the simulated studies, by chance alone: standard deviation of the logarithm of their seconds",
    )
