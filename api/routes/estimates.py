"""What a study will cost, before it starts."""

from typing import Annotated, Any

from fastapi import APIRouter, Body

from api.dependencies import AnEngine, TheSettings
from api.problems import described
from tuner.errors import Unavailable
from tuner.specs.estimate import Estimate
from tuner.specs.study import StudySpec
from tuner.store import estimating, posting, timings
from tuner.store.database import reading, writing

router = APIRouter(prefix="/v1/estimates", tags=["studies"])

EXAMPLES: dict[str, Any] = {
    "the quickstart": {"value": {"name": "mnist-quick"}},
    "search only": {"value": {"name": "shallow", "promotion": None, "budget": {"n_trials": 30}}},
}


@router.post("", response_model=Estimate, responses=described(503), summary="Estimate what a study will cost")
def estimate(
    spec: Annotated[StudySpec, Body(openapi_examples=EXAMPLES)], engine: AnEngine, settings: TheSettings
) -> Estimate:
    """Seconds with an 80 % interval, from what was timed on this installation. Before anything was, a runner is asked to time a
    few nets, which takes it seconds; until then the answer is 503."""
    with reading(engine) as connection:
        fitted = posting.check(connection, spec, settings).spec
        assert isinstance(fitted, StudySpec)
        found = estimating.estimate_study(connection, fitted, settings)
        runner = timings.newest_runner(connection)
    if found is not None:
        return found
    if runner is None:
        raise Unavailable("an estimate needs to know what a runner can do at once, but there has been none of late")
    host, _ = runner
    with writing(engine) as connection:
        timings.request(connection, host)
    raise Unavailable("an estimate needs timed epochs: a runner is timing a few nets now; ask again in a few seconds")
