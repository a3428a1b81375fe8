"""What an outside worker says: the bodies of suggest, measure and complete."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tuner.specs.spec import Spec

ClientId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,99}$", examples=["worker-1"])]


class SuggestCall(Spec):
    client_id: ClientId
    count: int = Field(
        1, ge=1, le=100, description="at most so many trials, those included that the client has already"
    )


class Measurement(Spec):
    step: int = Field(ge=0, lt=2**31, description="epoch, boosting round, …; measuring a step again replaces its value")
    value: float = Field(description="of the first objective")


class CompleteCall(Spec):
    """How an evaluation ended: with a value, or several values where the study has several objectives, or without."""

    value: float | None = None
    values: tuple[float, ...] | None = Field(None, min_length=1, description="in the order of the study's objectives")
    pruned: bool = Field(False, description="given up, as should_stop said; the last measured value is kept")
    infeasible: bool = Field(
        False, description="this configuration cannot be evaluated; the sampler learns to avoid it"
    )
    failed: bool = Field(False, description="something else went wrong; the sampler learns nothing")
    reason: str | None = Field(None, max_length=2000)

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        given = [name for name in ("value", "values") if getattr(self, name) is not None]
        given += [name for name in ("pruned", "infeasible", "failed") if getattr(self, name)]
        if len(given) != 1:
            rule = "exactly one of value, values, pruned, infeasible and failed must be given"
            raise ValueError(f"{rule}, but got {', '.join(given) or 'none'}")
        if self.reason is not None and given[0] in ("value", "values"):
            raise ValueError(f"a reason goes with pruned, infeasible or failed, but got {given[0]}")
        return self
