"""Rows into answers."""

import math
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from api.answers import (
    AttemptAnswer,
    BestAnswer,
    BestConfiguration,
    BestTrial,
    Configuration,
    JobAnswer,
    ModelAnswer,
    ProgressAnswer,
    Promoted,
    StudyStatus,
    StudySummary,
    TrialAnswer,
    TrialCounts,
    TrialWithCurves,
)
from api.findings import Findings
from tuner.specs.epoch import EpochRecord
from tuner.specs.finding import Finding
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.outside_space import Point
from tuner.specs.study import StudySpec
from tuner.statistics.comparison import are_apart
from tuner.store import attempts, champions, curves, model_registry, runs, trials, verdicts, voided
from tuner.store.attempts import Attempt
from tuner.store.clock import rfc3339
from tuner.store.jobs import Job, JobState
from tuner.store.model_registry import Model
from tuner.store.runs import Run, RunState
from tuner.store.studies import Study
from tuner.store.study_pages import ListedStudy

STATE_NAMES = tuple((state, state.name.lower()) for state in TrialState)


def job_answer(job: Job, study: str) -> JobAnswer:
    done, total = job.progress_done, max(job.progress_total, 1)
    return JobAnswer(
        id=job.id,
        study=study,
        kind=job.kind,
        state=JobState(job.state),
        stage=job.stage,
        priority=job.priority,
        after=job.after_job_id,
        work=job.work,
        attempt=job.attempt,
        stalled=job.stalled,
        progress=ProgressAnswer(done=done, total=total, fraction=min(1.0, done / total), eta_seconds=job.eta_seconds),
        stop_reason=job.stop_reason,
        error=job.error,
        elapsed_seconds=round(job.elapsed_seconds, 3),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def study_summary(study: ListedStudy) -> StudySummary:
    return StudySummary(
        name=study.name,
        state="foreign" if study.state is None else study.state.value,
        stage=study.stage,
        trials=_counts(study.trials),
        best_value=None if study.best is None else _finite(study.best),
        created_at=study.created_at,
    )


def study_status(connection: Connection, study: Study) -> StudyStatus:
    counts = _counts(trials.count_states(connection, [study.id])[study.id])
    job = None if study.job is None else job_answer(study.job, study.name)
    finished = counts.complete + counts.pruned + counts.fail
    foreign_progress = ProgressAnswer(done=finished, total=counts.total, fraction=1.0, eta_seconds=None)
    return StudyStatus(
        name=study.name,
        state="foreign" if job is None else job.state.value,
        stage=job.stage if job is not None else None,
        stop_reason=job.stop_reason if job is not None else None,
        error=job.error if job is not None else None,
        notes=list(study.notes),
        estimate=study.estimate,
        dataset_checksum=study.dataset_checksum,
        trials=counts,
        progress=job.progress if job is not None else foreign_progress,
        best=_best(connection, study),
        promoted=_promoted(connection, study),
        spec=study.spec,
        job=job,
        created_at=study.created_at,
        started_at=job.started_at if job is not None else None,
        finished_at=job.finished_at if job is not None else None,
    )


def trial_answers(
    connection: Connection, study: Study, found: Sequence[FrozenTrial], findings: Findings
) -> list[TrialAnswer]:
    counts = attempts.count_attempts(connection, [trial._trial_id for trial in found])
    judged = findings.of(connection, study, found)
    return [_trial(study, trial, counts.get(trial._trial_id, 0), judged.get(trial._trial_id)) for trial in found]


def trial_with_curves(connection: Connection, study: Study, trial: FrozenTrial, findings: Findings) -> TrialWithCurves:
    [answer] = trial_answers(connection, study, [trial], findings)
    records = curves.load_records(connection, "trial", trial._trial_id)
    names = [n for n in EpochRecord.model_fields if records and all(getattr(r, n) is not None for r in records)]
    history = attempts.load_attempts(connection, trial._trial_id)
    return TrialWithCurves(
        **answer.model_dump(),
        curves={name: [float(getattr(record, name)) for record in records] for name in names},
        build=history[-1].build if history else None,
        history=[_attempt(attempt) for attempt in history],
    )


def _attempt(attempt: Attempt) -> AttemptAnswer:
    return AttemptAnswer(
        job=attempt.job_id,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        outcome=attempt.outcome,
        detail=attempt.detail,
    )


def best_of_search(connection: Connection, study: Study, k: int, max_parameters: int | None) -> BestAnswer:
    """Distinct configurations of COMPLETE trials, the best first."""
    items: list[BestConfiguration] = []
    seen: set[Hyperparameters | Point] = set()
    best: float | None = None
    for trial in trials.best_first(connection, study.id, study.minimize, chunk=2 * k):
        point = _point(study, trial)
        parameters = trial.user_attrs.get("parameters")
        best = trial.values[0] if best is None else best
        if point is None or point in seen or (max_parameters is not None and (parameters or 0) > max_parameters):
            continue
        seen.add(point)
        configuration = BestConfiguration(
            rank=len(items) + 1,
            number=trial.number,
            contender=f"trial-{trial.number}",
            value=trial.values[0],
            seeds=1 if isinstance(point, Hyperparameters) else None,
            tied=_is_tied(study, best, trial.values[0]),
            hyperparameters=_shown(point),
            parameters=parameters,
            seed=trial.user_attrs.get("seed"),
            seed_value=trial.values[0],
            epochs=study.spec.last_step() if study.spec is not None else None,
            train_images=None,
            kept_epoch=None,
            model=None,
            test_accuracy=None,
        )
        items.append(configuration)
        if len(items) == k:
            break
    return BestAnswer(stage="search", items=items)


def _is_tied(study: Study, best: float, value: float) -> bool | None:
    """None where the values are no accuracies on images of ours."""
    if not isinstance(study.spec, StudySpec):
        return None
    return not are_apart(best, value, study.spec.subset.validation)


def best_of_promotion(connection: Connection, study: Study, k: int, max_parameters: int | None) -> BestAnswer:
    """The configurations that were retrained on the full data: the winner, those not to be told apart from the best, the smallest
    first, then the others by their accuracy on the validation images. Before there is a winner all are by accuracy. Of the newest
    promotion that has come to a verdict, or else of the newest."""
    job_id = verdicts.newest_job(connection, study.id) or runs.newest_job(connection, study.id, "promotion")
    found = model_registry.list_models(connection, None, 500, study.id)
    models = {model.contender: model for model in found if model.job_id == job_id}
    done: dict[str, list[Run]] = {}
    for run in runs.load_runs(connection, study.id, job_id, "promotion"):
        if run.state == RunState.COMPLETE and (max_parameters is None or run.parameters <= max_parameters):
            done.setdefault(run.contender, []).append(run)
    verdict = verdicts.of_job(connection, job_id) if job_id is not None else None
    tested = () if verdict is None else (verdict.delivered, verdict.default_net)
    delivered = {net.contender: net for net in tested if net is not None}
    standings = {} if verdict is None else {entrant.contender: entrant.standing for entrant in verdict.race.entrants}
    by_accuracy = sorted(done, key=lambda name: (-mean_accuracy(done[name]), done[name][0].parameters))
    ranked = [*(name for name in standings if name in done), *(name for name in by_accuracy if name not in standings)]
    epochs = curves.count_records(connection, "run", [runs_of[0].id for runs_of in done.values()])
    judged = [run for runs_of in done.values() for run in runs_of] + runs.load_runs(
        connection, study.id, job_id, "verdict"
    )
    kept = {(run.contender, run.seed): run.best_epoch for run in judged}
    items = []
    for rank, name in enumerate(ranked[:k], start=1):
        model, run, net = models.get(name), done[name][0], delivered.get(name)
        configuration = BestConfiguration(
            rank=rank,
            number=int(name.removeprefix("trial-")) if name.startswith("trial-") else None,
            contender=name,
            value=mean_accuracy(done[name]),
            seeds=len(done[name]),
            tied=standings[name] in ("winner", "tied") if name in standings else None,
            hyperparameters=run.hyperparameters,
            parameters=run.parameters,
            seed=run.seed if net is None else net.seed,
            seed_value=run.validation_accuracy if net is None else net.validation_accuracy,
            epochs=epochs.get(run.id),
            train_images=None if net is None else net.train_images,
            kept_epoch=kept.get((name, run.seed if net is None else net.seed)),
            model=model.id if model is not None else None,
            test_accuracy=model.metrics.test_accuracy if model is not None else None,
        )
        items.append(configuration)
    return BestAnswer(stage="promotion", items=items)


def furthest_best(connection: Connection, study: Study, k: int, max_parameters: int | None) -> BestAnswer:
    """Of the furthest stage that has any."""
    promoted = best_of_promotion(connection, study, k, max_parameters)
    return promoted if promoted.items else best_of_search(connection, study, k, max_parameters)


def mean_accuracy(found: Sequence[Run]) -> float:
    return sum(run.validation_accuracy or 0.0 for run in found) / len(found)


def model_answers(connection: Connection, found: Sequence[Model]) -> list[ModelAnswer]:
    reigns = champions.reigns(connection, [model.id for model in found])
    return [ModelAnswer.model_validate({**vars(model), "champion_of": reigns.get(model.id, [])}) for model in found]


def _counts(states: dict[TrialState, int]) -> TrialCounts:
    by_name = {name: states.get(state, 0) for state, name in STATE_NAMES}
    return TrialCounts(total=sum(by_name.values()), **by_name)


def _best(connection: Connection, study: Study) -> BestTrial | None:
    found = trials.best_trials(connection, study.id, study.minimize, 1)
    if not found or not found[0].values:
        return None
    [trial] = found
    value = trial.values[0]
    point = _hyperparameters(study, trial)
    return BestTrial(number=trial.number, value=value, hyperparameters=point) if math.isfinite(value) else None


def _promoted(connection: Connection, study: Study) -> Promoted | None:
    model = model_registry.promoted_model(connection, study.id)
    if model is None:
        return None
    return Promoted(
        model=model.id,
        hyperparameters=model.hyperparameters,
        test_accuracy=model.metrics.test_accuracy,
        verdict=verdicts.of_job(connection, model.job_id),
    )


def _finite(value: float) -> float | None:
    """JSON knows no infinity; Optuna's own are stored as the largest numbers there are."""
    return value if abs(value) < trials.LARGEST else None


def _trial(study: Study, trial: FrozenTrial, attempt_count: int, finding: Finding | None) -> TrialAnswer:
    value = trial.values[0] if trial.values else None
    attributes = trial.user_attrs
    return TrialAnswer(
        number=trial.number,
        state=trial.state.name,
        value=value if value is not None and math.isfinite(value) else None,
        values=None if trial.values is None else [v if math.isfinite(v) else None for v in trial.values],
        params=_params(trial),
        hyperparameters=_hyperparameters(study, trial),
        seed=attributes.get("seed") if study.spec is not None else None,
        attempts=attempt_count,
        seconds=attributes.get("seconds") if study.spec is not None else None,
        parameters=attributes.get("parameters") if study.spec is not None else None,
        reason=attributes.get("reason") if study.spec is not None else None,
        detail=attributes.get("detail") if study.spec is not None else None,
        finding=finding,
        void=voided.is_void(trial),
        void_reason=voided.void_reason(trial),
        datetime_start=None if trial.datetime_start is None else rfc3339(trial.datetime_start.astimezone(UTC)),
        datetime_complete=None if trial.datetime_complete is None else rfc3339(trial.datetime_complete.astimezone(UTC)),
    )


def _params(trial: FrozenTrial) -> dict[str, Any]:
    """Of a trial that was enqueued and not yet started, those it will have."""
    waiting: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return trial.params or waiting


def _hyperparameters(study: Study, trial: FrozenTrial) -> Configuration | None:
    point = _point(study, trial)
    return None if point is None else _shown(point)


def _shown(point: Hyperparameters | Point) -> Configuration:
    return point if isinstance(point, Hyperparameters) else dict(point)


def _point(study: Study, trial: FrozenTrial) -> Hyperparameters | Point | None:
    """None for a foreign study's trial, and for one of another program whose parameters are not those of the space."""
    return None if study.spec is None else study.spec.search_space.find(_params(trial))
