"""More work on a study that is there: the body of `POST /v1/studies/{name}/jobs`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from tuner.specs.spec import Spec
from tuner.specs.study import EnsembleSpec, PromotionSpec


def _ask_for_kind(schema: dict[str, Any]) -> None:
    """A body must say which work it is; the default is for who builds it as a class, which says so already."""
    schema["properties"]["kind"].pop("default")
    schema["required"] = ["kind", *schema.get("required", ())]


class _Work(Spec):
    model_config = ConfigDict(json_schema_extra=_ask_for_kind)

    queue: bool = Field(
        False, description="wait for the study's unfinished job, if there is one, instead of being refused"
    )
    priority: int = Field(0, ge=-100, le=100, description="a higher one is started first")


class SearchWork(_Work):
    """Search on, on the subset, up to a new total of trials."""

    kind: Literal["search"] = "search"
    n_trials: int = Field(ge=1, le=100_000, description='the new total, never "more"')


class PromoteWork(_Work):
    """Promote the best of all trials anew; a value left out is the study's own. Of the kind `ensemble` it makes bag and student,
    too: they stand on one frozen list with the net that they are made of, so they never come without a promotion."""

    kind: Literal["promote", "ensemble"] = "promote"
    top_k: int | None = Field(None, ge=1, le=50)
    max_seeds: int | None = Field(None, ge=1, le=50)
    epochs: int | None = Field(None, ge=1, le=1000)
    ensemble: EnsembleSpec | None = Field(
        None, description="null: the study's own; where it has none, of the kind `ensemble` five members and a student"
    )
    force_test: bool = Field(
        False,
        description="open the sealed test set although the study has opened it for other models; every later verdict on these "
        "images tells how often that was done",
    )

    def promotion(self, studys_own: PromotionSpec | None) -> PromotionSpec:
        given = self.model_dump(include={"top_k", "max_seeds", "epochs"}, exclude_none=True)
        return (studys_own or PromotionSpec()).model_copy(update=given)

    def ensemble_of(self, studys_own: EnsembleSpec | None) -> EnsembleSpec | None:
        return self.ensemble or studys_own or (EnsembleSpec() if self.kind == "ensemble" else None)


Work = Annotated[SearchWork | PromoteWork, Field(discriminator="kind")]

NO_REPORT = "a report takes no job: GET /v1/studies/{name}/report makes it in a moment, at any time"
"""What is said to who asks for a job of the kind `report`."""

read_work: TypeAdapter[SearchWork | PromoteWork] = TypeAdapter(Work)
