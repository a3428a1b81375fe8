"""The course notes' experiments, as they came out here."""

from typing import Literal

from pydantic import Field

from tuner.specs.spec import Spec


class NotesRow(Spec):
    """One arm of an experiment: what the notes say of it, and what came out."""

    experiment: str
    arm: str
    notes: str = Field(description="the notes' figure, or what they say in words")
    accuracy: float = Field(description="mean over the seeds, 0 to 1")
    deviation: float | None = Field(description="of the seeds' accuracies; null where there is one seed")
    seeds: int
    diverged: int = Field(description="of the seeds; such a run counts with the accuracy of guessing")
    train_accuracy: float | None = Field(description="likewise, in the last epoch of training; null for a bag")
    epochs: float = Field(description="mean number of epochs trained")
    train: int = Field(description="training images")
    images: Literal["test", "validation"] = Field(description="on which the accuracy was read")
    images_count: int
    otherwise: str = Field(description="what is otherwise here than in the notes")
