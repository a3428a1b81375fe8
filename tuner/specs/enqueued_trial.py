"""A trial that a user wants tried next: the body of `POST /v1/studies/{name}/trials`."""

from collections.abc import Mapping

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from tuner.specs.spec import Spec


class EnqueuedTrial(Spec):
    hyperparameters: Mapping[str, StrictBool | StrictInt | StrictFloat | StrictStr] = Field(
        max_length=100,
        description="within the study's search space; what is left out is as the space fixes it, or else as in the default "
        "configuration",
    )
