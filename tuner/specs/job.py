"""More work on a study that is there: the body of `POST /v1/studies/{name}/jobs`."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tuner.specs.spec import Spec
from tuner.specs.study import PromotionSpec


class SearchWork(Spec):
    """Search on, on the subset, up to a new total of trials."""

    kind: Literal["search"] = "search"
    n_trials: int = Field(ge=1, le=100_000, description='the new total, never "more"')


class PromoteWork(Spec):
    """Promote the best of all trials anew; a value left out is the study's own."""

    kind: Literal["promote"] = "promote"
    top_k: int | None = Field(None, ge=1, le=50)
    max_seeds: int | None = Field(None, ge=1, le=50)
    epochs: int | None = Field(None, ge=1, le=1000)

    def promotion(self, studys_own: PromotionSpec | None) -> PromotionSpec:
        given = self.model_dump(exclude={"kind"}, exclude_none=True)
        return (studys_own or PromotionSpec()).model_copy(update=given)


Work = Annotated[SearchWork | PromoteWork, Field(discriminator="kind")]

read_work: TypeAdapter[SearchWork | PromoteWork] = TypeAdapter(Work)
