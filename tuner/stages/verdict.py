"""The verdict: the finalists and the ensemble on the one opening of the sealed test set, which has chosen nothing."""

import hashlib
import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from tuner.data.sealed import open_test_set
from tuner.errors import TestSetSealed
from tuner.specs.verdict import Delivered, Ensemble, ForcedOpening, Gain, OpeningTold, StageCost, Verdict
from tuner.stages import race
from tuner.stages.allowance import costs
from tuner.stages.ensemble import Assembled, Built, built_of
from tuner.stages.finalists import Finalist, Finals
from tuner.stages.gain import CONFIDENCE, untold, weigh, wilson
from tuner.stages.job import RunningJob
from tuner.stages.promotion import Promoted
from tuner.statistics.comparison import Correct, compare_nets
from tuner.store import ledger, model_registry, verdicts
from tuner.store.clock import now
from tuner.store.events import Entry
from tuner.store.ledger import Opener, Opening
from tuner.store.model_files import ModelConfig, write_model
from tuner.store.model_registry import Model, ModelMetrics

logger = logging.getLogger(__name__)

TIMED_IMAGES = 200


@dataclass(frozen=True)
class _Frozen(Finals):
    """The list that the opening scores."""

    built: tuple[Built, ...] = ()
    """The ensemble's models."""

    def hashes(self) -> list[str]:
        nets = {net.sha256 for finalist in self.finalists for net in finalist.nets}
        return sorted(nets | {one.sha256 for one in self.built})


@dataclass(frozen=True)
class _Reading:
    """What the opened test set has shown: for each finalist which images its nets have right (seeds, images)."""

    openings: tuple[Opening, ...]
    """Of these images by all studies, this one the last."""
    correct: tuple[Correct, ...]
    milliseconds: tuple[float, ...]
    """Per image, of each finalist's delivered net."""
    built: tuple[NDArray[np.bool_], ...] = ()
    """Which images each of the ensemble's models has right (images,)."""
    built_milliseconds: tuple[float, ...] = ()


def judge(job: RunningJob, promoted: Promoted, finals: Finals, assembled: Assembled | None = None) -> Verdict:
    """Keep the winner's, the default's and the ensemble's models, and record the verdict.

    The opening stands in the ledger before an image is read; a restart in between opens the same list again. A study whose test
    set was opened for other models before keeps these without a test accuracy, unless the job forces it.
    """
    built = () if assembled is None else assembled.built
    final = _Frozen(finals.finalists, finals.fresh, finals.data, finals.epochs, built)
    reading = _read(job, final)
    metrics = [_metrics(final, reading, k) for k in range(len(final.finalists))]
    models = [_keep(job, one, final.epochs, told) for one, told in zip(final.finalists, metrics, strict=True)]
    verdict = _verdict(job, promoted, final, reading, models)
    if assembled is not None:
        models += [
            _write(job, one.kind, one, _built_metrics(job, one, reading, k)) for k, one in enumerate(final.built)
        ]
        verdict = verdict.model_copy(update={"ensemble": _ensemble(assembled.told, final, reading)})

    def finish(connection: Connection) -> None:
        for model in models:
            model_registry.add_model(connection, model)
        if reading is not None:
            ledger.record_reading(connection, reading.openings[-1].id, _scores(final, reading))
        verdicts.record(connection, job.study_id, job.lease.job_id, verdict)

    job.write(finish)
    return verdict


def _read(job: RunningJob, final: _Frozen) -> _Reading | None:
    """None where the sealed test set stays closed."""
    opener = Opener(job.study_id, job.name, job.lease.job_id, job.dataset.name, job.dataset.checksum, job.forces_test)
    openings: list[Opening] = []

    def record_opening() -> None:
        def record(connection: Connection) -> list[Opening]:
            opening = ledger.record_opening(connection, opener, final.hashes())
            return [o for o in ledger.load_openings(connection, opener.checksum) if o.id <= opening.id]

        openings.extend(job.write(record))

    try:
        images, labels = open_test_set(job.dataset, record_opening)
    except TestSetSealed as sealed:
        job.note(Entry("warning", {"message": str(sealed)}))
        return None
    correct = tuple(
        np.array([job.right(net.stored, images, labels) for net in finalist.nets]) for finalist in final.finalists
    )
    timed = images[:TIMED_IMAGES]
    delivered = [finalist.nets[finalist.delivered].stored for finalist in final.finalists]
    return _Reading(
        tuple(openings),
        correct,
        tuple(net.milliseconds_per_image(timed) for net in delivered),
        tuple(job.right(one.net, images, labels) for one in final.built),
        tuple(one.net.milliseconds_per_image(timed) for one in final.built),
    )


def _scores(final: _Frozen, reading: _Reading) -> dict[str, dict[str, int]]:
    """By the models' hashes."""
    scored = [
        (net.sha256, right)
        for finalist, correct in zip(final.finalists, reading.correct, strict=True)
        for net, right in zip(finalist.nets, correct, strict=True)
    ]
    scored += [(one.sha256, right) for one, right in zip(final.built, reading.built, strict=True)]
    return {sha256: {"correct": int(right.sum()), "images": len(right)} for sha256, right in scored}


def _metrics(final: _Frozen, reading: _Reading | None, k: int) -> ModelMetrics:
    """Of the delivered net of finalist `k`."""
    finalist = final.finalists[k]
    validation = finalist.nets[finalist.delivered].run.validation_accuracy or 0.0
    found = ModelMetrics(validation_accuracy=validation, validation_images=final.data.validation_count)
    if reading is None:
        return found
    return _tested(found, reading.correct[k][finalist.delivered], reading.milliseconds[k])


def _built_metrics(job: RunningJob, built: Built, reading: _Reading | None, k: int) -> ModelMetrics:
    """Of the ensemble's model `k`."""
    images = job.refit_slice.validation_count
    found = ModelMetrics(validation_accuracy=built.validation_accuracy, validation_images=images)
    return found if reading is None else _tested(found, reading.built[k], reading.built_milliseconds[k])


def _tested(found: ModelMetrics, right: NDArray[np.bool_], milliseconds: float) -> ModelMetrics:
    told = wilson(right)
    tested = {"test_accuracy": told.value, "test_interval": told.interval, "milliseconds_per_image": milliseconds}
    return found.model_copy(update=tested)


def _ensemble(told: Ensemble, final: _Frozen, reading: _Reading | None) -> Ensemble:
    """What the test images have shown of bag and student, each against the delivered single net."""
    if reading is None:
        return told
    winner = final.winner
    single, size = reading.correct[0][winner.delivered], winner.nets[winner.delivered].run.parameters
    right = {one.kind: row for one, row in zip(final.built, reading.built, strict=True)}
    changes: dict[str, object] = {}
    words = [told.words]
    for one in final.built:
        seen = compare_nets(right[one.kind], single)
        low, high = interval = seen.interval(CONFIDENCE)
        changes |= {f"{one.kind}_gain": seen.difference, f"{one.kind}_interval": interval}
        span = f"{100 * seen.difference:+.2f} points (95 % interval {100 * low:+.2f} to {100 * high:+.2f})"
        times = f"{one.parameters / size:.1f} times its parameters"
        words.append(f"against the single net the {one.kind} has {span} and {times}")
    if len(right) == 2:
        behind = float(right["bag"].mean() - right["student"].mean())
        changes["student_behind_bag"] = behind
        words.append(f"the student is {100 * behind:.2f} points behind the bag")
    return told.model_copy(update={**changes, "words": "; ".join(words)})


def _verdict(
    job: RunningJob, promoted: Promoted, final: _Frozen, reading: _Reading | None, models: list[Model]
) -> Verdict:
    winner = final.winner
    spent = [StageCost(**vars(cost)) for cost in costs(job)]
    return Verdict(
        tau=promoted.tau,
        optimism=promoted.optimism,
        race=race.tell(promoted.raced, job.race_slice.validation_count),
        gain=None if reading is None else _gain(final, reading),
        accuracy=None if reading is None else wilson(reading.correct[0][winner.delivered]),
        delivered=_delivered(final, 0, models[0]),
        default_net=_delivered(final, 1, models[1]) if len(final.finalists) > 1 else None,
        opening=None if reading is None else _opening(reading),
        costs=tuple(spent),
    )


def _delivered(final: _Frozen, k: int, model: Model) -> Delivered:
    """The net of finalist `k` that is kept as `model`."""
    finalist = final.finalists[k]
    run = finalist.nets[finalist.delivered].run
    return Delivered(
        contender=finalist.contender,
        model=model.id,
        seed=run.seed,
        validation_accuracy=run.validation_accuracy or 0.0,
        seeds=len(finalist.nets),
        train_images=final.data.train_count,
        validation_images=final.data.validation_count,
    )


def _gain(final: _Frozen, reading: _Reading) -> Gain:
    if final.winner.contender == "default":
        return weigh(reading.correct[0], None, final.fresh)
    if len(final.finalists) == 1:
        return untold(reading.correct[0], final.fresh)
    return weigh(reading.correct[0], reading.correct[1], final.fresh)


def _opening(reading: _Reading) -> OpeningTold:
    opening = reading.openings[-1]
    forced = [o for o in reading.openings if o.forced]
    return OpeningTold(
        number=len(reading.openings),
        forced=opening.forced,
        opened_by=opening.opened_by,
        models=len(opening.models),
        forced_openings=tuple(
            ForcedOpening(study=o.study_name, opened_at=o.opened_at, opened_by=o.opened_by) for o in forced
        ),
    )


def _keep(job: RunningJob, finalist: Finalist, epochs: int, metrics: ModelMetrics) -> Model:
    """Write the delivered net's folder, the same one again after a restart; answers its row."""
    run = finalist.nets[finalist.delivered].run
    return _write(job, run.contender, built_of(job, finalist.kind, run, epochs), metrics)


def _write(job: RunningJob, contender: str, kept: Built, metrics: ModelMetrics) -> Model:
    dataset = job.dataset
    model = Model(
        id=hashlib.sha256(f"{job.created_at} {job.lease.job_id} {contender}".encode()).hexdigest()[:16],
        study_id=job.study_id,
        job_id=job.lease.job_id,
        study=job.name,
        kind=kept.kind,
        contender=contender,
        hyperparameters=kept.hyperparameters,
        parameters=kept.parameters,
        metrics=metrics,
        sha256=kept.sha256,
        promoted=kept.kind == "single",
        created_at=now(),
    )
    config = ModelConfig(
        study=job.name,
        kind=model.kind,
        hyperparameters=kept.hyperparameters,
        dataset=dataset.name,
        dataset_checksum=dataset.checksum,
        image_shape=dataset.image_shape,
        classes=dataset.classes,
        parameters=model.parameters,
        seed=kept.seed,
        train_images=dataset.train_count - (metrics.validation_images or 0),
        epochs=kept.epochs,
        best_epoch=kept.best_epoch,
        members=kept.members,
    )
    job.outlast(lambda: write_model(job.models_dir / model.id, kept.weights, config, metrics))
    return model
