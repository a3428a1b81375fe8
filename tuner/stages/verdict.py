"""The verdict: the sealed test set is opened once, for the winner and the default configuration."""

import hashlib
import logging
from dataclasses import dataclass

from scipy.stats import binomtest
from sqlalchemy import Connection

from tuner.data.sealed import open_test_set
from tuner.errors import TestSetSealed
from tuner.stages.job import RunningJob
from tuner.store import ledger, model_registry
from tuner.store.clock import now
from tuner.store.model_files import ModelConfig, StoredNet, read_weights, write_model
from tuner.store.model_registry import Model, ModelMetrics
from tuner.store.runs import Run

logger = logging.getLogger(__name__)

CONFIDENCE = 0.95


@dataclass(frozen=True)
class _Finalist:
    """One entry of the frozen list."""

    run: Run
    promoted: bool
    weights: bytes
    sha256: str
    net: StoredNet


def judge(job: RunningJob, ranked: list[Run]) -> bool:
    """Keep the best of `ranked` and the default's run as models, scored on the test images; whether they could be.

    The opening stands in the ledger before an image is read; a restart in between opens the same list again. A study whose test
    set was opened for other models before keeps these without a test accuracy.
    """
    finalists = [
        _finalist(job, run, run is ranked[0]) for run in ranked if run is ranked[0] or run.contender == "default"
    ]
    openings: list[ledger.Opening] = []

    def record_opening() -> None:
        hashes, dataset = [finalist.sha256 for finalist in finalists], job.dataset
        opening = job.write(
            lambda connection: ledger.record_opening(
                connection,
                ledger.Opener(
                    job.study_id, job.name, job.lease.job_id, dataset.name, dataset.checksum, job.forces_test
                ),
                hashes,
            )
        )
        openings.append(opening)

    try:
        images, labels = open_test_set(job.dataset, record_opening)
    except TestSetSealed as sealed:
        message = str(sealed)
        job.write(lambda connection: job.log(connection, "warning", message=message))
        models = [_keep(job, finalist, _untested(finalist)) for finalist in finalists]
        job.write(lambda connection: _add(connection, models))
        return False
    models, reading = [], {}
    for finalist in finalists:
        correct = int((finalist.net.predict(images).argmax(axis=1) == labels).sum())
        reading[finalist.sha256] = {"correct": correct, "images": len(labels)}
        interval = binomtest(correct, len(labels)).proportion_ci(CONFIDENCE, method="wilson")
        metrics = ModelMetrics(
            validation_accuracy=finalist.run.validation_accuracy or 0.0,
            test_accuracy=correct / len(labels),
            test_interval=(interval.low, interval.high),
            milliseconds_per_image=finalist.net.milliseconds_per_image(images[:200]),
        )
        models.append(_keep(job, finalist, metrics))

    def finish(connection: Connection) -> None:
        _add(connection, models)
        ledger.record_reading(connection, openings[0].id, reading)

    job.write(finish)
    logger.info("%s: the promoted net has test accuracy %.4f", job.name, models[0].metrics.test_accuracy)
    return True


def _add(connection: Connection, models: list[Model]) -> None:
    for model in models:
        model_registry.add_model(connection, model)


def _untested(finalist: _Finalist) -> ModelMetrics:
    return ModelMetrics(validation_accuracy=finalist.run.validation_accuracy or 0.0)


def _finalist(job: RunningJob, run: Run, promoted: bool) -> _Finalist:
    weights = read_weights(job.models_dir / str(run.weights))
    net = StoredNet.from_bytes(weights, run.hyperparameters.activation)
    return _Finalist(run, promoted, weights, hashlib.sha256(weights).hexdigest(), net)


def _keep(job: RunningJob, finalist: _Finalist, metrics: ModelMetrics) -> Model:
    """Write the model's folder, the same one again after a restart; answers its row."""
    run, dataset = finalist.run, job.dataset
    promotion = job.promotion
    model = Model(
        id=hashlib.sha256(f"{job.created_at} {job.lease.job_id} {run.contender}".encode()).hexdigest()[:16],
        study_id=job.study_id,
        job_id=job.lease.job_id,
        study=job.name,
        kind="single" if finalist.promoted else "default",
        contender=run.contender,
        hyperparameters=run.hyperparameters,
        parameters=run.parameters,
        metrics=metrics,
        sha256=finalist.sha256,
        promoted=finalist.promoted,
        created_at=now(),
    )
    config = ModelConfig(
        study=job.name,
        kind=model.kind,
        hyperparameters=run.hyperparameters,
        dataset=dataset.name,
        dataset_checksum=dataset.checksum,
        image_shape=dataset.image_shape,
        classes=dataset.classes,
        parameters=model.parameters,
        seed=run.seed,
        epochs=promotion.epochs if promotion is not None else 0,
        best_epoch=run.best_epoch or 0,
    )
    job.outlast(lambda: write_model(job.models_dir / model.id, finalist.weights, config, metrics))
    return model
