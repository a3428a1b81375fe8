"""The challenge: the winner of a scheduled re-tune against the schedule's champion. The better one stands from then on.

Both configurations are trained as in a race, each for its own epochs, with the same new seeds, and compared on the validation
images over seeds and images (`tuner.statistics.comparison`). The winner replaces the champion only where it is better
beyond chance. The sealed test set is not opened: asked every night, it would soon be a validation set.

The validation images have chosen the winner, and the champion before it, so they flatter both; with new seeds only what is of
the images stays of that. docs/decisions.md says how often a challenge errs for all that.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from tuner.data.catalogue import images_of
from tuner.specs.webhook import NewChampion
from tuner.stages.job import RunningJob
from tuner.stages.progress import Meter, ahead
from tuner.stages.retraining import Contender, Plan, retrain
from tuner.stages.view import derive_seed
from tuner.statistics.comparison import Comparison, Correct, compare
from tuner.store import champions, deliveries, model_registry, schedule_runs, schedules
from tuner.store.champions import Champion, Contest, Decision, Ruling
from tuner.store.model_files import ModelConfig, read_config
from tuner.store.runs import Run, RunState
from tuner.store.schedules import Schedule

logger = logging.getLogger(__name__)

ERROR = 0.05
"""Of the challenges by a winner that is no better, at most such a share replaces the champion."""

LEVEL = 0.95
"""Of the interval that is told."""


@dataclass(frozen=True)
class _Pairing:
    """`challenger` and `champion` are models' ids; `champion` is None where none stands."""

    schedule_id: int
    challenger: str
    champion: str | None
    has_files: bool = False
    """Whether the champion's files are there."""
    seeds: tuple[int, ...] = ()
    """With which both are trained."""


def expected_epochs(job: RunningJob) -> int:
    """That a challenge at this job's end will train, as far as its beginning knows: its winner may be the champion again."""

    def count(connection: Connection) -> int:
        schedule = _schedule(connection, job)
        if schedule is None or job.promotion is None or not champions.standing(connection, [schedule.id]):
            return 0
        return 2 * schedule.spec.challenge_seeds * job.promotion.epochs

    return job.read(count)


def challenge(job: RunningJob) -> None:
    """Decide, once, whether the winner of this job is its schedule's champion from now on.

    Nothing happens where no schedule has started the job, or where the job has promoted nothing.
    """
    pairing = job.read(lambda connection: _pair(connection, job))
    if pairing is not None:
        job.enter("challenge")
        verdict, contest = _judge(job, pairing)
        job.write(lambda connection: _decide(connection, job, pairing.schedule_id, verdict, contest))


def _pair(connection: Connection, job: RunningJob) -> _Pairing | None:
    job_id = job.lease.job_id
    challenger = model_registry.winner_of(connection, job_id)
    schedule = _schedule(connection, job)
    if schedule is None or challenger is None or champions.decision_of(connection, schedule.id, job_id) is not None:
        return None
    champion = champions.standing(connection, [schedule.id]).get(schedule.id)
    if champion is None:
        return _Pairing(schedule.id, challenger, None)
    return _Pairing(
        schedule.id,
        challenger,
        champion.model_id,
        has_files=model_registry.has_files(connection, champion.model_id),
        seeds=_fresh_seeds(job, champion, schedule.spec.challenge_seeds),
    )


def _schedule(connection: Connection, job: RunningJob) -> Schedule | None:
    """Which has started the job."""
    schedule_id = schedule_runs.schedule_of(connection, job.lease.job_id)
    return None if schedule_id is None else schedules.find_schedule_by_id(connection, schedule_id)


def _fresh_seeds(job: RunningJob, champion: Champion, count: int) -> tuple[int, ...]:
    """Those of no other stage, job or champion: what had luck with its seeds has to stand with others, and a restart that finds
    another champion than before trains anew."""
    jobs = job.lease.job_id, champion.job_id
    return tuple(derive_seed(job.spec.seed, *jobs, *b"challenge", k) for k in range(count))


def _judge(job: RunningJob, pairing: _Pairing) -> tuple[Ruling, Contest]:
    contest = Contest(reason="the schedule had no champion", challenger=pairing.challenger, champion=pairing.champion)
    if pairing.champion is None:
        return Ruling.FIRST, contest
    if not pairing.has_files:
        return Ruling.FIRST, _because(contest, "the champion's files were removed")
    champion, challenger = (read_config(job.models_dir / model) for model in (pairing.champion, pairing.challenger))
    if (champion.dataset_checksum, champion.image_shape) != (challenger.dataset_checksum, challenger.image_shape):
        return Ruling.FIRST, _because(contest, "the champion was trained on other data")
    if (champion.hyperparameters, champion.epochs) == (challenger.hyperparameters, challenger.epochs):
        return Ruling.KEPT, _because(contest, "the winner has the champion's own configuration")
    trained = _train(job, champion, challenger, pairing.seeds)
    return _compare(job, contest, pairing.seeds, trained)


def _because(contest: Contest, reason: str) -> Contest:
    return contest.model_copy(update={"reason": reason})


def _train(job: RunningJob, champion: ModelConfig, challenger: ModelConfig, seeds: tuple[int, ...]) -> list[Run]:
    """The runs of both with every seed; one that the time limit has cut off is not among them, or is still RUNNING."""
    contenders = [
        Contender("champion", champion.hyperparameters, champion.epochs),
        Contender("challenger", challenger.hyperparameters, challenger.epochs),
    ]
    plan = Plan("challenge", job.race_slice, challenger.epochs, decay=True, keep_weights=True, seeds=seeds)
    return retrain(
        job, plan, contenders, _meter(job, job.train_count, len(seeds) * (champion.epochs + challenger.epochs))
    )


def _meter(job: RunningJob, images: int, epochs: int) -> Callable[[int], None]:
    """Shows the epochs of the challenge on top of all that was done before."""
    return Meter(job, job.progress.total - job.challenge_epochs).measure("challenge", epochs, images, ahead(job, 0))


def _compare(job: RunningJob, contest: Contest, seeds: tuple[int, ...], trained: list[Run]) -> tuple[Ruling, Contest]:
    complete = {(run.contender, run.seed): run for run in trained if run.state == RunState.COMPLETE}
    broken = sum(("challenger", seed) not in complete for seed in seeds)
    if broken:
        reason = f"{broken} of the challenger's {len(seeds)} runs did not reach their end"
        return Ruling.KEPT, _because(contest, reason)
    shared = tuple(seed for seed in seeds if ("champion", seed) in complete)
    if len(shared) < 2:
        reason = f"a comparison takes two seeds, but only {len(shared)} of the champion's runs reached their end"
        return Ruling.KEPT, _because(contest, reason)
    ours, theirs = (_correct(job, [complete[name, seed] for seed in shared]) for name in ("challenger", "champion"))
    return weigh(contest, shared, ours, theirs)


def weigh(contest: Contest, seeds: tuple[int, ...], ours: Correct, theirs: Correct) -> tuple[Ruling, Contest]:
    """The verdict on a challenger whose nets had `ours` right where the champion's had `theirs`, each (seeds, images)."""
    seen = compare(ours, theirs)
    changes = {
        "reason": _in_words(seen),
        "seeds": seeds,
        "images": seen.images,
        "challenger_accuracy": float(ours.mean()),
        "champion_accuracy": float(theirs.mean()),
        "difference": seen.difference,
        "interval": seen.interval(LEVEL),
        "p_value": seen.p_value(),
    }
    verdict = Ruling.REPLACED if seen.exceeds(0.0, ERROR) else Ruling.KEPT
    return verdict, contest.model_copy(update=changes)


def _in_words(seen: Comparison) -> str:
    low, high = seen.interval(LEVEL)
    points = f"{100 * seen.difference:+.2f} points, {LEVEL:.0%} interval {100 * low:+.2f} to {100 * high:+.2f}"
    return f"the challenger is {'' if seen.exceeds(0.0, ERROR) else 'not '}better beyond chance: {points}"


def _correct(job: RunningJob, trained: list[Run]) -> Correct:
    """(seeds, images): which of the validation images the runs' nets have right."""
    images, labels = images_of(job.dataset, job.race_slice.validation)
    return np.array([job.right(job.net(run), images, labels) for run in trained])


def _decide(connection: Connection, job: RunningJob, schedule_id: int, verdict: Ruling, contest: Contest) -> None:
    decision = champions.decide(connection, schedule_id, job.lease, verdict, contest)
    if decision is not None:
        told = {"verdict": decision.verdict, "model": decision.model_id, "reason": decision.contest.reason}
        job.log(connection, "champion", **told)
        _tell_of_change(connection, job, decision)


def _tell_of_change(connection: Connection, job: RunningJob, decision: Decision) -> None:
    schedule = schedules.find_schedule_by_id(connection, decision.schedule_id)
    if decision.verdict is not Ruling.KEPT and schedule is not None:
        champion = NewChampion(
            schedule=schedule.name,
            model=decision.model_id,
            previous=decision.contest.champion,
            reason=decision.contest.reason,
        )
        deliveries.enqueue(connection, job.study_id, job.lease.job_id, "champion.changed", champion)
