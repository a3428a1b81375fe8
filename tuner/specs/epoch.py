"""What is recorded of every epoch."""

from pydantic import Field

from tuner.specs.spec import Spec


class EpochRecord(Spec):
    """One epoch of one training run; all numbers are finite, since a diverged run ends without a record."""

    epoch: int = Field(ge=1, description="1 for the first; Optuna's step")
    train_loss: float = Field(description="mean over the epoch's batches, with dropout and shifts in force")
    train_accuracy: float = Field(description="likewise, 0 to 1")
    validation_loss: float
    validation_accuracy: float = Field(description="0 to 1")
    validation_cross_entropy: float | None = Field(
        None, description="whatever loss is trained; null in records of earlier versions"
    )
    gradient_norm_first: float = Field(
        description="L2 norm of the first layer's weight gradient, mean over the batches"
    )
    gradient_norm_last: float = Field(description="the same of the output layer")
    dead_units: float = Field(
        description="share of hidden units with the same output for every validation image, 0 to 1"
    )
    learning_rate: float = Field(description="at the epoch's last batch")
    seconds: float = Field(description="wall-clock")
