"""What a study's trials say together: importances, pictures, the front."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from api import figures, views
from api.answers import FrontAnswer, FrontAxis, FrontTrial, ImportanceAnswer, ImportancesAnswer
from api.dependencies import Limit, Reading, StudyName, TheFindings, find_study
from api.fronts import Axis, axes_of, objective_names, on_front_of
from api.problems import described
from api.remembered import Remembered
from tuner.errors import NotFound
from tuner.statistics.importances import MIN_TRIALS, importances
from tuner.store import curves, revisions, trial_samples, trials
from tuner.store.studies import Study

router = APIRouter(prefix="/v1/studies/{name}", tags=["studies"])

REMEMBERED_BYTES = 32 * 1024 * 1024

KINDS = ", ".join(figures.FIGURES)


def _remembered(request: Request) -> Remembered[bytes]:
    kept: Remembered[bytes] = request.app.state.analyses
    return kept


Analyses = Annotated[Remembered[bytes], Depends(_remembered)]
Kind = Annotated[str, Path(description=KINDS, examples=["history"])]
Params = Annotated[
    list[str] | None,
    Query(max_length=20, description="parameters; a contour takes two", examples=[["width", "dropout"]]),
]


@router.get(
    "/importances", response_model=ImportancesAnswer, responses=described(404), summary="Which parameters decided"
)
def get_importances(name: StudyName, connection: Reading, analyses: Analyses) -> Response:
    """PED-ANOVA over the COMPLETE trials; conditional parameters are judged among the trials that have them."""
    content = _importances_json(connection, find_study(connection, name), analyses)
    return Response(content, media_type="application/json")


def importances_of(connection: Connection, study: Study, analyses: Remembered[bytes]) -> ImportancesAnswer:
    return ImportancesAnswer.model_validate_json(_importances_json(connection, study, analyses))


def _importances_json(connection: Connection, study: Study, analyses: Remembered[bytes]) -> bytes:
    """Kept until the study has another trial."""

    def make() -> bytes:
        found = _sample(connection, study, "importances")
        return _importances(found, trial_samples.directions(connection, study)).model_dump_json().encode()

    return analyses.get(("importances", *_version(connection, study)), make)


@router.get(
    "/plots/{kind}",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}, **described(404, 409)},
    summary="A picture, as a plotly figure",
)
def get_plot(name: StudyName, kind: Kind, connection: Reading, analyses: Analyses, params: Params = None) -> Response:
    """`data` and `layout` for `Plotly.newPlot`; `layout.meta` says how many of the study's trials are in it."""
    study = find_study(connection, name)
    if kind not in figures.FIGURES:
        raise NotFound(f"no plot is called {kind!r}; there are {KINDS}")
    key = (kind, tuple(params or ()), *_version(connection, study))
    content = analyses.get(key, lambda: _draw(connection, study, kind, tuple(params or ())))
    return Response(content, media_type="application/json")


@router.get("/pareto", response_model=FrontAnswer, responses=described(404, 409), summary="What cannot be had better")
def get_pareto(name: StudyName, connection: Reading, findings: TheFindings, limit: Limit = 100) -> FrontAnswer:
    """The COMPLETE trials on the axes of the study's objectives, or of its one objective and the size of the net: first those
    that no other one beats on every axis, then the best of the others."""
    study = find_study(connection, name)
    found = _sample(connection, study, "pareto")
    axes = _axes(connection, study, found, trial_samples.directions(connection, study))
    front = on_front_of(axes) if found else np.zeros(0, dtype=np.bool_)
    order = np.lexsort((axes[0].costs(), ~front))[:limit]
    answers = views.trial_answers(connection, study, [found[k] for k in order], findings)
    items = [
        FrontTrial(
            number=answer.number,
            values=[axis.values[k] if math.isfinite(axis.values[k]) else None for axis in axes],
            on_front=bool(front[k]),
            params=answer.params,
            hyperparameters=answer.hyperparameters,
        )
        for k, answer in zip(order, answers, strict=True)
    ]
    shown = [FrontAxis(name=axis.name, direction=_word(axis.direction)) for axis in axes]
    return FrontAnswer(axes=shown, trials=len(found), items=items)


def _version(connection: Connection, study: Study) -> tuple[Any, ...]:
    """What changes with every trial that an analysis looks at."""
    counts = trials.count_states(connection, [study.id])[study.id]
    ended = counts.get(TrialState.COMPLETE, 0), counts.get(TrialState.PRUNED, 0)
    return study.id, study.name, study.created_at, ended, revisions.read(connection, study.id)


def _sample(connection: Connection, study: Study, kind: str) -> list[FrozenTrial]:
    limit = figures.LIMITS[kind]
    if kind != "curves":
        return trial_samples.sample(connection, study, [TrialState.COMPLETE], limit)
    found = trial_samples.sample(connection, study, [TrialState.COMPLETE, TrialState.PRUNED], limit)
    if study.spec is not None and study.spec.objective == "mlp" and len(study.spec.objectives) > 1:
        found = curves.with_reports(connection, found)
    return [trial for trial in found if trial.intermediate_values]


def _importances(found: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> ImportancesAnswer:
    if len(found) < MIN_TRIALS:
        note = f"importances take at least {MIN_TRIALS} COMPLETE trials, but there are {len(found)}"
        return ImportancesAnswer(trials=len(found), items=[], note=note)
    items = [ImportanceAnswer(parameter=name, share=share) for name, share in importances(found, directions).items()]
    return ImportancesAnswer(trials=len(found), items=items, note=None if items else "no parameter varies")


def _draw(connection: Connection, study: Study, kind: str, params: tuple[str, ...]) -> bytes:
    found = _sample(connection, study, kind)
    directions = trial_samples.directions(connection, study)
    names = _names(connection, study, directions)
    least = MIN_TRIALS if kind in ("importances", "contour") else 1
    if len(found) < least:
        what = "trials with a curve" if kind == "curves" else "COMPLETE trials"
        figure = figures.nothing(f"at least {least} {what} are needed, but there are {len(found)}")
    else:
        axes = axes_of(found, names, directions) if kind == "pareto" else []
        subject = figures.Subject(tuple(found), tuple(directions), names[0], params, tuple(axes))
        figure = figures.FIGURES[kind](subject)
    counts = trials.count_states(connection, [study.id])[study.id]
    figure.update_layout(meta={"trials": len(found), "of": sum(counts.values())})
    return str(figure.to_json()).encode()


def _axes(
    connection: Connection, study: Study, found: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[Axis]:
    return axes_of(found, _names(connection, study, directions), directions)


def _names(connection: Connection, study: Study, directions: Sequence[StudyDirection]) -> list[str]:
    attributes = trials.study_system_attributes(connection, study.id)
    return objective_names(study, directions, attributes.get("study:metric_names"))


def _word(direction: StudyDirection) -> Any:
    return "maximize" if direction == StudyDirection.MAXIMIZE else "minimize"
