"""What is the matter with a net: each disease is built, from real digits, and found."""

import dataclasses
from collections.abc import Sequence
from functools import cache

import pytest

from benchmarks.ill_nets import DEVELOPMENT, Patient, train_patient
from tests.digits import CLASSES
from tuner.specs.epoch import EpochRecord
from tuner.specs.finding import FINDINGS, FindingName
from tuner.specs.hyperparameters import Hyperparameters
from tuner.statistics.diagnosis import Ending, TrainingRun, diagnose

H = Hyperparameters
SEED = 3

NETS: dict[str, tuple[Patient, str]] = {
    "steps of 10": (
        Patient("diverged", H(optimizer="sgd", learning_rate=10, depth=3), 1000, 3, SEED),
        "epochs_with_finite_numbers",
    ),
    "ten sigmoid layers": (
        Patient("vanishing_gradient", H(activation="sigmoid", depth=10), 1000, 3, SEED),
        "gradient_ratio",
    ),
    "mse, and a softmax sure of itself": (
        Patient(
            "vanishing_gradient",
            H(loss="mse", normalisation="none", optimizer="sgd", learning_rate=0.1),
            1000,
            3,
            SEED,
        ),
        "last_train_loss_over_guessing",
    ),
    "relus turned off by their biases": (Patient("dead_units", H(), 1000, 3, SEED, dead_share=1.0), "dead_units"),
    "Adam at 10": (Patient("learning_rate_too_high", H(learning_rate=10), 1000, 3, SEED), "learning_rate"),
    "a usual rate that is too high for tanh": (
        Patient(
            "learning_rate_too_high",
            H(learning_rate=1.0, optimizer="sgd", activation="tanh", depth=3, batch_size=32),
            1000,
            5,
            SEED,
        ),
        "highest_train_loss_over_guessing",
    ),
    "Adam at 1e-6": (Patient("learning_rate_too_low", H(learning_rate=1e-6), 1000, 3, SEED), "learning_rate"),
    "a usual rate that is too low for sigmoid and mse": (
        Patient(
            "learning_rate_too_low",
            H(activation="sigmoid", loss="mse", optimizer="sgd", learning_rate=0.01),
            1000,
            3,
            SEED,
        ),
        "last_train_loss_over_guessing",
    ),
    "one epoch": (Patient("stopped_too_early", H(), 2000, 1, SEED), "validation_loss_fall"),
    "two units a layer": (Patient("underfit", H(width=2), 1000, 5, SEED), "units_after_dropout"),
    "dropout of 0.95": (Patient("underfit", H(width=512, dropout=0.95), 500, 4, SEED), "dropout"),
    "200 images and a wide net": (Patient("overfit", H(width=512), 200, 20, SEED), "accuracy_gap"),
    "a sound net": (
        Patient("healthy", H(optimizer="sgd", learning_rate=0.1, batch_size=32), 2000, 6, SEED),
        "accuracy_gap",
    ),
}


@cache
def trained(name: str) -> TrainingRun:
    return train_patient(NETS[name][0], DEVELOPMENT)


@pytest.mark.parametrize("name", NETS)
def test_what_was_built_is_found(name: str) -> None:
    """One finding for each net, with the measure that decided, on the far side of its threshold from every other net's."""
    patient, measure = NETS[name]
    finding = diagnose(trained(name))
    assert finding is not None
    assert (finding.name, finding.evidence.measure) == (patient.expected, measure)
    assert finding.evidence.sentence.endswith(".")


def test_every_finding_is_built_here() -> None:
    assert {patient.expected for patient, _ in NETS.values()} == set(FINDINGS)


def at(epochs: int, ending: Ending, name: str) -> FindingName:
    """The finding of a run that ended after so many epochs."""
    run = trained(name)
    finding = diagnose(dataclasses.replace(run, records=run.records[:epochs], ending=ending))
    assert finding is not None
    return finding.name


def test_a_pruned_net_is_not_blamed_for_its_end() -> None:
    """Where the pruner has ended a net that was learning, it is healthy; one that was allowed no more has stopped too early. Its
    diseases are found all the same."""
    assert at(1, "pruned", "a sound net") == "healthy"
    assert at(1, "complete", "a sound net") == "stopped_too_early"
    assert at(2, "pruned", "ten sigmoid layers") == "vanishing_gradient"
    assert at(2, "pruned", "Adam at 1e-6") == "learning_rate_too_low"
    sentence = diagnose(dataclasses.replace(trained("one epoch"), ending="pruned"))
    assert sentence is not None
    assert "pruner" in sentence.evidence.sentence


def test_without_an_epoch_only_a_diverged_run_has_a_finding() -> None:
    assert diagnose(TrainingRun((), H(), CLASSES, "pruned")) is None
    finding = diagnose(TrainingRun((), H(), CLASSES, "diverged"))
    assert finding is not None
    assert finding.name == "diverged"


def record(**numbers: float) -> EpochRecord:
    sound = EpochRecord(
        epoch=1,
        train_loss=0.1,
        train_accuracy=0.97,
        validation_loss=0.2,
        validation_accuracy=0.94,
        gradient_norm_first=1.0,
        gradient_norm_last=1.0,
        dead_units=0.0,
        learning_rate=1e-3,
        seconds=0.1,
    )
    return sound.model_copy(update=numbers)


@pytest.mark.parametrize(
    ("records", "h", "expected"),
    [
        ([record(dead_units=1.0, gradient_norm_first=1e-9)], H(), "healthy"),
        ([record(train_accuracy=0.5)], H(dropout=0.9), "healthy"),
        ([record(train_accuracy=0.95, train_loss=9.0)], H(), "learning_rate_too_high"),
        ([record(train_accuracy=0.99, validation_accuracy=0.92)], H(), "healthy"),
        ([record(train_accuracy=0.99, validation_accuracy=0.90)], H(), "overfit"),
        ([record(validation_loss=0.40), record(epoch=2, validation_loss=0.30)], H(), "stopped_too_early"),
        ([record(validation_loss=0.33), record(epoch=2, validation_loss=0.30)], H(), "healthy"),
    ],
    ids=[
        "who is good on the training images has no gradient to be blamed for",
        "dropout makes training look harder than it is: good on unseen images is good enough",
        "a loss far above guessing counts even where the accuracy is good",
        "a gap of seven points is usual",
        "a gap of nine is not",
        "a good net whose loss still fell by a quarter",
        "a good net whose loss has settled",
    ],
)
def test_the_order_of_the_questions(records: Sequence[EpochRecord], h: Hyperparameters, expected: FindingName) -> None:
    """First the training set, then the validation set."""
    finding = diagnose(TrainingRun([record(epoch=1, validation_loss=0.2), *records], h, CLASSES, "complete"))
    assert finding is not None
    assert finding.name == expected
