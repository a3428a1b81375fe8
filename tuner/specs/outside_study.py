"""A study whose trials are run elsewhere: the service asks, an outside worker evaluates and tells."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from tuner.specs.outside_space import OutsideSpace
from tuner.specs.spec import Spec
from tuner.specs.study import CommonSpec, Direction, EnsembleSpec, PromotionSpec, StudySpec, check_grid, check_sampler


class OutsideObjective(Spec):
    metric: str = Field("value", pattern=r"^[^\s/]{1,100}$")
    direction: Direction = "maximize"


class OutsideStudySpec(CommonSpec):
    """A study of any objective (`"objective": "external"`); the space is the user's own."""

    objective: Literal["external"]
    search_space: OutsideSpace
    objectives: tuple[OutsideObjective, ...] = Field((OutsideObjective(),), min_length=1, max_length=5)
    lease_seconds: float = Field(
        300,
        ge=1,
        le=7 * 86_400,
        description="a suggested trial of which nothing is heard for so long goes to another worker",
    )
    dataset: None = Field(None, description="does not apply, as subset, promotion and ensemble")
    subset: None = None
    promotion: None = None
    ensemble: None = None
    deterministic: Literal[False] = Field(
        False, description="only false: when an outside worker tells is not the service's to decide"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [objective.metric for objective in self.objectives]
        if len(set(names)) < len(names):
            raise ValueError(f"objectives must have names of their own, but got {', '.join(names)}")
        check_sampler(self.sampler, len(names))
        if self.sampler.kind == "grid":
            check_grid(self.search_space.continuous(), self.search_space.size())
        return self

    def default_params(self) -> None:
        """There is no configuration that would be anybody's default."""

    def usual_params(self) -> None:
        """Nor what mostly helps."""

    def directions(self) -> list[Direction]:
        """Of each objective, the first one first."""
        return [objective.direction for objective in self.objectives]

    def promoted_epochs(self, _promotion: PromotionSpec | None, _ensemble: EnsembleSpec | None) -> int:
        """Nothing is promoted."""
        return 0

    def last_step(self) -> None:
        """Only the worker knows it."""

    def generation(self) -> None:
        """Outside workers come and go as they like."""


def _objective(body: Any) -> str:
    objective = body.get("objective", "mlp") if isinstance(body, Mapping) else getattr(body, "objective", "mlp")
    return "external" if objective == "external" else "mlp"


AnyStudySpec = Annotated[
    Annotated[StudySpec, Tag("mlp")] | Annotated[OutsideStudySpec, Tag("external")], Discriminator(_objective)
]

read_spec: TypeAdapter[StudySpec | OutsideStudySpec] = TypeAdapter(AnyStudySpec)
"""Of a body, or of a row."""
