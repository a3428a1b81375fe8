"""What came of a study, put together from what is stored, at any time of its life."""

from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from api import views
from api.answers import ImportancesAnswer
from api.findings import judge
from api.report_answers import (
    CostAnswer,
    EnsembleAnswer,
    GainAnswer,
    LedgerAnswer,
    ReadingAnswer,
    ReportAnswer,
    ReportedBest,
    ReportedModel,
    ReproduceAnswer,
    StageCostAnswer,
    TauAnswer,
)
from tuner.data.catalogue import Dataset, describe
from tuner.errors import NotFound
from tuner.specs.diagnosis import StudyDiagnosis
from tuner.specs.study import StudySpec
from tuner.specs.verdict import Verdict
from tuner.statistics.study_diagnosis import JudgedTrial, diagnose_study
from tuner.store import attempts, curves, jobs, ledger, model_registry, runs, trial_samples, verdicts
from tuner.store.jobs import UNFINISHED
from tuner.store.model_registry import Model
from tuner.store.studies import Study

MOST_TRIALS = 1000
MOST_READINGS = 100


@dataclass(frozen=True)
class Subject:
    """A study, with what its report and the pictures in it are made of."""

    study: Study
    ended: tuple[FrozenTrial, ...]
    """COMPLETE and PRUNED ones that are not void, by number; of very many, a sample."""
    judged: dict[int, JudgedTrial]
    """By trial id."""
    dataset: Dataset | None
    verdict: Verdict | None

    @property
    def complete(self) -> list[FrozenTrial]:
        return [trial for trial in self.ended if trial.state == TrialState.COMPLETE]


def read_subject(connection: Connection, study: Study, datasets_dir: Path) -> Subject:
    ended = trial_samples.sample(connection, study, [TrialState.COMPLETE, TrialState.PRUNED], MOST_TRIALS)
    return Subject(
        study=study,
        ended=tuple(ended),
        judged=judge(connection, study, ended, datasets_dir),
        dataset=_dataset(study, datasets_dir),
        verdict=verdicts.of_study(connection, study.id),
    )


def report_on(connection: Connection, subject: Subject, importances: ImportancesAnswer) -> ReportAnswer:
    study = subject.study
    status = views.study_status(connection, study)
    models = _newest_models(connection, study)
    best = _best(connection, study, models["single"])
    gain = _gain(subject.verdict, models)
    return ReportAnswer(
        study=study.name,
        state=status.state,
        stage=status.stage,
        headline=_headline(study, gain, best, status.trials.total),
        trials=status.trials,
        cost=_cost(connection, subject),
        best=best,
        gain=gain,
        optimism=subject.verdict.optimism if subject.verdict is not None else None,
        tau=_tau(subject.verdict),
        race=subject.verdict.race if subject.verdict is not None else None,
        importances=importances,
        diagnosis=_diagnosis(subject),
        ensemble=_ensemble(subject.verdict, models),
        test_ledger=_ledger(connection, subject),
        reproduce=_reproduce(connection, subject, best),
        notes=[*status.notes, *([status.error] if status.error else [])],
    )


def _dataset(study: Study, datasets_dir: Path) -> Dataset | None:
    """None where the study has none, or it was deleted."""
    if not isinstance(study.spec, StudySpec):
        return None
    try:
        return describe(study.spec.dataset, datasets_dir)
    except NotFound:
        return None


def _newest_models(connection: Connection, study: Study) -> dict[str, Model | None]:
    """The single is the study's winner; the others are those of the same promotion."""
    winner = model_registry.promoted_model(connection, study.id)
    newest: dict[str, Model | None] = dict.fromkeys(("default", "single", "bag", "student"))
    for model in model_registry.list_models(connection, None, 500, study.id):
        of_same = winner is None or model.kind == "single" or model.job_id == winner.job_id
        if newest.get(model.kind, model) is None and of_same:
            newest[model.kind] = model
    newest["single"] = winner
    if winner is not None and winner.contender == "default":
        newest["default"] = winner
    return newest


def _model(model: Model | None) -> ReportedModel | None:
    if model is None:
        return None
    return ReportedModel(
        model=model.id,
        parameters=model.parameters,
        test_accuracy=model.metrics.test_accuracy,
        test_interval=model.metrics.test_interval,
        milliseconds_per_image=model.metrics.milliseconds_per_image,
    )


def _best(connection: Connection, study: Study, winner: Model | None) -> ReportedBest | None:
    found = views.furthest_best(connection, study, 1, None)
    if not found.items:
        return None
    [configuration] = found.items
    kept = winner if winner is not None and winner.id == configuration.model else None
    return ReportedBest(
        stage=found.stage,
        number=configuration.number,
        hyperparameters=configuration.hyperparameters,
        parameters=configuration.parameters,
        value=configuration.value,
        train_images=configuration.train_images,
        model=configuration.model,
        test_accuracy=configuration.test_accuracy,
        test_interval=None if kept is None else kept.metrics.test_interval,
    )


def _ensemble(verdict: Verdict | None, models: dict[str, Model | None]) -> EnsembleAnswer:
    told = None if verdict is None else verdict.ensemble
    return EnsembleAnswer(
        **{kind: _model(model) for kind, model in models.items()}, words=None if told is None else told.words
    )


def _gain(verdict: Verdict | None, models: dict[str, Model | None]) -> GainAnswer:
    if verdict is not None and verdict.gain is not None:
        told = verdict.gain
        return GainAnswer(
            over_default=told.over_default,
            interval=told.interval,
            verdict=told.verdict,
            winner_accuracy=told.winner_accuracy,
            default_accuracy=told.default_accuracy,
            seeds=told.seeds,
            images=told.images,
            words=told.words,
        )
    words = "Nothing was compared with the default configuration on the sealed test set."
    if models["single"] is not None and models["single"] == models["default"]:
        words = "The default configuration itself has won, so there is nothing that tuning has bought."
    return GainAnswer(
        over_default=None,
        interval=None,
        verdict="unknown",
        winner_accuracy=None,
        default_accuracy=None,
        seeds=None,
        images=None,
        words=words,
    )


def _tau(verdict: Verdict | None) -> TauAnswer:
    if verdict is None:
        words = "Whether the subset's ranking can be trusted was not checked: there is no verdict of a promotion."
        return TauAnswer(value=None, interval=None, verdict="unknown", words=words)
    told = verdict.tau
    return TauAnswer(value=told.value, interval=told.interval, verdict=told.verdict, words=told.words)


def _headline(study: Study, gain: GainAnswer, best: ReportedBest | None, total: int) -> str:
    if gain.verdict != "unknown" and gain.over_default is not None and gain.interval is not None:
        low, high = (100 * end for end in gain.interval)
        points = f"{100 * gain.over_default:+.2f} points ({low:+.2f} to {high:+.2f})"
        return {
            "better": f"Worth it: tuning brought {points} over the default configuration.",
            "not worth it": f"Not worth it: {points} over the default configuration may be chance. Keep the default.",
            "worse": f"Not worth it: the tuned net is worse than the default configuration, {points}. Keep the default.",
        }[gain.verdict]
    if study.job is not None and study.job.state in UNFINISHED:
        return f"Not at its end yet: {total} trials so far."
    if best is None:
        return "Nothing was found."
    if best.stage == "promotion":
        return "The best configuration was trained on all images; how much of its lead is chance is not known."
    if not isinstance(study.spec, StudySpec):
        return f"The best of {total} trials has {best.value:.6g}."
    return (
        f"Nothing was promoted, so nothing can be said about a gain: the best trial has {best.value:.4f}, a value that flatters, "
        "since it was chosen by it."
    )


def _cost(connection: Connection, subject: Subject) -> CostAnswer:
    study = subject.study
    searched, seconds = curves.cost_of_trials(connection, study.id)
    stages = [StageCostAnswer(stage="search", runs=searched, cpu_seconds=round(seconds, 3))] if searched else []
    for stage, count, cpu_seconds in runs.costs_of_study(connection, study.id):
        stages.append(StageCostAnswer(stage=stage, runs=count, cpu_seconds=round(cpu_seconds, 3)))
    return CostAnswer(
        cpu_seconds=round(sum(stage.cpu_seconds for stage in stages), 3) if stages else None,
        wall_seconds=None if study.spec is None else round(jobs.elapsed_seconds(connection, study.id), 3),
        estimate=study.estimate,
        stages=stages,
    )


def _diagnosis(subject: Subject) -> StudyDiagnosis | None:
    if not isinstance(subject.study.spec, StudySpec) or not subject.judged:
        return None
    return diagnose_study(list(subject.judged.values()), subject.study.spec.search_space)


def _ledger(connection: Connection, subject: Subject) -> LedgerAnswer:
    if subject.dataset is None:
        return LedgerAnswer(opened=0, readings=[])
    openings = ledger.load_openings(connection, subject.dataset.checksum)
    readings = [
        ReadingAnswer(
            study=opening.study_name,
            opened_at=opening.opened_at,
            models=len(opening.models),
            forced=opening.forced,
            this_study=opening.study_name == subject.study.name,
        )
        for opening in openings[-MOST_READINGS:]
    ]
    return LedgerAnswer(opened=len(openings), readings=readings)


def _reproduce(connection: Connection, subject: Subject, best: ReportedBest | None) -> ReproduceAnswer:
    study, spec = subject.study, subject.study.spec
    number = best.number if best is not None else None
    newest = subject.ended[-1] if subject.ended and isinstance(spec, StudySpec) else None
    history = attempts.load_attempts(connection, newest._trial_id) if newest is not None else []
    commands = [f"tuner run {study.name}.json"] if spec is not None else []
    if isinstance(spec, StudySpec) and best is not None:
        if number is not None:
            commands.append(f"tuner trial replay {study.name} {number}")
        commands.append(f"tuner study export {study.name} --format torch")
    return ReproduceAnswer(
        seed=None if spec is None else spec.seed,
        dataset=spec.dataset if isinstance(spec, StudySpec) else None,
        dataset_checksum=subject.dataset.checksum if subject.dataset is not None else None,
        versions=history[-1].build if history else None,
        commands=commands,
        spec=spec,
    )
