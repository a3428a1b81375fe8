"""A study's best configurations: as answers, as a file, as a training script of one's own."""

from typing import Annotated, Literal

import yaml
from fastapi import APIRouter, Query, Response

from api import views
from api.answers import BestAnswer
from api.dependencies import Reading, StudyName, TheSettings, find_study
from api.problems import described
from api.recipes import recipe_of
from tuner.errors import NotFound
from tuner.exports.script import render

router = APIRouter(prefix="/v1/studies", tags=["studies"])

Stage = Annotated[
    Literal["search", "promotion"] | None, Query(description="default: the furthest there is", examples=["search"])
]
Format = Annotated[
    Literal["json", "yaml", "keras", "torch"],
    Query(
        alias="format",
        description="keras and torch: a script that trains and tests the configuration of `rank`",
        examples=["yaml"],
    ),
]
Rank = Annotated[int, Query(ge=1, le=100, description="of the configuration that a script is for", examples=[1])]
MaxParameters = Annotated[int | None, Query(ge=1, description="only nets of at most so many", examples=[100_000])]

STAGES = {
    "search": views.best_of_search,
    "promotion": views.best_of_promotion,
    None: views.furthest_best,
}

FORMATS = {
    "application/yaml": {"schema": {"$ref": "#/components/schemas/BestAnswer"}},
    "text/x-python": {"schema": {"type": "string", "description": "it needs nothing of this service"}},
}


@router.get(
    "/{name}/best",
    response_model=BestAnswer,
    responses={200: {"content": FORMATS}, **described(404, 409)},
    summary="The best configurations",
)
def get_best(
    name: StudyName,
    connection: Reading,
    settings: TheSettings,
    k: Annotated[int, Query(ge=1, le=100, description="how many", examples=[3])] = 5,
    max_parameters: MaxParameters = None,
    stage: Stage = None,
    form: Format = "json",
    rank: Rank = 1,
) -> BestAnswer | Response:
    """`format=torch` and `format=keras` answer a program: it reads the data set's files, trains as the service has trained, and
    prints the test accuracy."""
    study = find_study(connection, name)
    script = form in ("keras", "torch")
    best = STAGES[stage](connection, study, rank if script else k, max_parameters)
    if form == "json":
        return best
    if form == "yaml":
        return Response(yaml.safe_dump(best.model_dump(mode="json"), sort_keys=False), media_type="application/yaml")
    if rank > len(best.items):
        raise NotFound(f"study {name!r} has {len(best.items)} configurations of its {best.stage}, but got {rank=}")
    source = render(recipe_of(study, best.stage, best.items[rank - 1], settings.datasets_dir), form)
    headers = {"Content-Disposition": f'inline; filename="{study.name}-{form}.py"'}
    return Response(source, media_type="text/x-python", headers=headers)
