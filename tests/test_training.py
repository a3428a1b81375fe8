"""Training on real digits: what it returns, what it raises, and that it does the same twice."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from tests.digits import CLASSES, digits, images_and_labels
from tuner.errors import DamagedData, InvalidInput
from tuner.nets import forward
from tuner.nets.evaluation import accuracy, predict
from tuner.nets.learning_rate import rate_factor
from tuner.nets.training import TrainedNet, TrainingDiverged, TrainingStopped, train
from tuner.nets.training_data import prepare
from tuner.nets.weights import to_bytes
from tuner.specs.epoch import EpochRecord
from tuner.specs.hyperparameters import Activation, Hyperparameters, Loss, Normalisation, Optimizer

LEARNING_RATES: dict[Optimizer, float] = {"sgd": 0.1, "momentum": 0.02, "rmsprop": 2e-3, "adam": 3e-3}

OVERSHOOTING = Hyperparameters(width=16, learning_rate=0.01, batch_size=16)
"""Soon at its best, and not improving from there."""

NO_CHECKPOINT = safetensors.torch.save({"weights.0": torch.zeros(3)})


def noisy(optimizer: Optimizer) -> Hyperparameters:
    """Everything that draws random numbers is on, and what is learnt beside the weights."""
    return Hyperparameters(
        width=24,
        activation="tanh",
        batch_norm=True,
        dropout=0.3,
        input_dropout=0.1,
        shift_pixels=1,
        batch_size=64,
        optimizer=optimizer,
        learning_rate=LEARNING_RATES[optimizer],
    )


def timeless(records: Sequence[EpochRecord]) -> list[EpochRecord]:
    """Records without the one thing that differs between equal runs."""
    return [record.model_copy(update={"seconds": 0.0}) for record in records]


def same(one: TrainedNet, other: TrainedNet) -> bool:
    """Whether two runs agree to the last bit, in what they recorded and in the net they made."""
    return timeless(one.records) == timeless(other.records) and to_bytes(one.net) == to_bytes(other.net)


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
def test_two_runs_with_one_seed_are_equal_to_the_bit(optimizer: Optimizer) -> None:
    """Whatever the process did between them; and another seed gives another run."""
    h = noisy(optimizer)
    one = train(h, digits(500), classes=CLASSES, epochs=2, seed=7, decay=True)
    torch.manual_seed(123)
    train(Hyperparameters(width=9, dropout=0.5), digits(300), classes=CLASSES, epochs=1, seed=1)
    two = train(h, digits(500), classes=CLASSES, epochs=2, seed=7, decay=True)
    assert same(one, two)
    assert not same(one, train(h, digits(500), classes=CLASSES, epochs=2, seed=8, decay=True))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "maxout"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("optimizer", LEARNING_RATES)
def test_every_combination_learns(activation: Activation, loss: Loss, optimizer: Optimizer) -> None:
    """Each activation, loss and optimizer takes a small net far above guessing in a few epochs."""
    h = Hyperparameters(
        width=32,
        activation=activation,
        loss=loss,
        optimizer=optimizer,
        # Sigmoid's derivative is at most a quarter, and where the error is largest the squared error's gradient is small.
        learning_rate=LEARNING_RATES[optimizer]
        * (10 if activation == "sigmoid" and optimizer in ("sgd", "momentum") else 1),
        batch_size=20,
    )
    result = train(h, digits(600), classes=CLASSES, epochs=5, seed=0)
    assert result.records[-1].validation_accuracy > 0.6
    assert result.records[-1].train_loss < result.records[0].train_loss


def test_normalised_ten_sigmoid_layers_learn() -> None:
    """The notes' deep net that guesses: with batch normalisation its gradients reach the first layer (Ioffe & Szegedy 2015)."""
    h = Hyperparameters(depth=10, width=32, activation="sigmoid", learning_rate=1e-2, batch_size=50)
    normalised = h.model_copy(update={"batch_norm": True})
    without, with_it = (
        train(one, digits(2000), classes=CLASSES, epochs=8, seed=0, decay=True).records[-1].validation_accuracy
        for one in (h, normalised)
    )
    assert without < 0.3
    assert with_it > 0.7


@pytest.mark.parametrize("size", [1, 25])
def test_a_batch_of_one_image_can_be_normalised(size: int) -> None:
    """Also as the last of an epoch, or all along."""
    h = Hyperparameters(width=16, batch_norm=True, batch_size=size)
    result = train(h, digits(101), classes=CLASSES, epochs=2, seed=0)
    assert result.records[1].train_loss < result.records[0].train_loss


@pytest.mark.parametrize("normalisation", ["none", "scale", "standardise"])
def test_32_digits_are_learnt_by_heart(normalisation: Normalisation) -> None:
    """A net that cannot overfit 32 images is broken."""
    h = Hyperparameters(width=64, batch_size=8, normalisation=normalisation)
    result = train(h, digits(32), classes=CLASSES, epochs=40, seed=0)
    assert result.records[-1].train_accuracy == 1
    assert result.records[-1].train_loss < 0.05


def test_the_default_configuration_learns_digits() -> None:
    """5,000 images and 5 epochs take the default above 91 % on images it has not seen: a floor, not a target."""
    result = train(Hyperparameters(), digits(5000, 2000), classes=CLASSES, epochs=5, seed=0)
    assert result.records[-1].validation_accuracy > 0.91


def test_records_say_what_happened() -> None:
    """Against the net that the same run returns: validation figures, dropout off, are those of its best epoch."""
    data, epochs = digits(600, 300), []
    h = Hyperparameters(width=40, learning_rate=3e-3, dropout=0.3)
    result = train(h, data, classes=CLASSES, epochs=6, seed=0, on_epoch=lambda record, _: epochs.append(record))
    assert tuple(epochs) == result.records
    assert [record.epoch for record in epochs] == [1, 2, 3, 4, 5, 6]
    best = result.records[result.best_epoch - 1]
    logits = result.net(data.validation_images)
    loss = torch.nn.functional.cross_entropy(logits, data.validation_labels).item()
    assert best.validation_loss == pytest.approx(loss, rel=1e-5)
    assert best.validation_accuracy == pytest.approx((logits.argmax(1) == data.validation_labels).float().mean().item())
    hidden = torch.cat(result.net.layers(data.validation_images)[:-1], dim=1)
    assert best.dead_units == pytest.approx((hidden == hidden[0]).all(0).float().mean().item())
    assert best.learning_rate == 3e-3
    assert sum(record.seconds for record in epochs) == pytest.approx(result.seconds)
    assert result.cpu_seconds > 0


def test_training_figures_are_means_over_the_epoch() -> None:
    """With one batch an epoch and no noise they are those of the net as the epoch found it; units that cannot fire are dead."""
    data = digits(64, 64)
    h = Hyperparameters(width=8, depth=1, batch_size=64, learning_rate=1e-3, optimizer="sgd", weight_decay=0)
    first, second = (train(h, data, classes=CLASSES, epochs=n, seed=0) for n in (1, 2))
    net = first.net
    loss = torch.nn.functional.cross_entropy(net(data.train_images), data.train_labels)
    gradients = torch.autograd.grad(loss, [net.weights[0], net.weights[-1]])
    record = second.records[1]
    assert record.train_loss == pytest.approx(loss.item(), rel=1e-5)
    assert record.gradient_norm_first == pytest.approx(gradients[0].norm().item(), rel=1e-4)
    assert record.gradient_norm_last == pytest.approx(gradients[1].norm().item(), rel=1e-4)


def test_a_batch_larger_than_the_set_is_the_set() -> None:
    """10 images in batches of 8,192 are one batch."""
    result = train(Hyperparameters(width=4, batch_size=8192), digits(10), classes=CLASSES, epochs=1, seed=0)
    assert result.records[0].train_loss > 0


def test_best_epochs_weights_are_returned() -> None:
    """A run that gets worse returns the net of its best epoch."""
    h = OVERSHOOTING
    result = train(h, digits(300, 100), classes=CLASSES, epochs=12, seed=1)
    accuracies = [record.validation_accuracy for record in result.records]
    assert result.best_epoch < 12, "the example must get worse for the claim to be tested"
    images, labels = images_and_labels()
    assert accuracy(result.net, images[-100:], labels[-100:]) == pytest.approx(max(accuracies))


def test_the_last_epochs_weights_are_returned_where_they_are_asked_for() -> None:
    """Of a run that gets worse, too."""
    result = train(OVERSHOOTING, digits(300, 100), classes=CLASSES, epochs=12, seed=1, last=True)
    accuracies = [record.validation_accuracy for record in result.records]
    last = accuracies[-1]
    assert (last < max(accuracies), result.best_epoch) == (True, 12)
    images, labels = images_and_labels()
    assert accuracy(result.net, images[-100:], labels[-100:]) == pytest.approx(last)


def test_of_several_best_epochs_the_last_counts() -> None:
    """On ten validation images accuracies are often equal; then the longer-trained net is returned."""
    result = train(Hyperparameters(width=32), digits(300, 10), classes=CLASSES, epochs=10, seed=0)
    accuracies = [record.validation_accuracy for record in result.records]
    assert accuracies.count(max(accuracies)) > 1, "the example must have a tie for the claim to be tested"
    assert result.best_epoch == 10 - accuracies[::-1].index(max(accuracies))


def test_patience_ends_a_run_that_gains_nothing() -> None:
    """Training ends at the first epoch that lies `patience` epochs behind the best; ties are no gain."""
    h = OVERSHOOTING
    patient, whole = (train(h, digits(300, 100), classes=CLASSES, epochs=12, seed=1, patience=p) for p in (2, None))
    accuracies = [record.validation_accuracy for record in whole.records]
    waited = [e for e in range(1, 13) if e - (1 + accuracies.index(max(accuracies[:e]))) >= 2]
    assert waited
    assert timeless(patient.records) == timeless(whole.records[: waited[0]])


@pytest.mark.parametrize(
    ("hyperparameters", "what"),
    [
        (Hyperparameters(learning_rate=100, optimizer="sgd", depth=4), "training loss|layer's gradient norm"),
        (
            Hyperparameters(learning_rate=100, activation="maxout", optimizer="momentum"),
            "layer's gradient norm|training loss",
        ),
        (
            Hyperparameters(learning_rate=100, optimizer="sgd", depth=12, batch_size=500, normalisation="none"),
            "validation loss",
        ),
    ],
)
def test_a_diverged_run_ends_at_once(hyperparameters: Hyperparameters, what: str) -> None:
    """NaN and infinity never reach a record; the error says which number and in which epoch."""
    records: list[EpochRecord] = []
    with pytest.raises(TrainingDiverged, match=f"the .*({what}) became (nan|inf)") as error:
        train(
            hyperparameters,
            digits(500),
            classes=CLASSES,
            epochs=5,
            seed=0,
            on_epoch=lambda record, _: records.append(record),
        )
    assert error.value.epoch == 1 + len(records)


@pytest.mark.parametrize("learning_rate", [1e-2, 1, 100])
@pytest.mark.parametrize("optimizer", LEARNING_RATES)
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_no_learning_rate_makes_a_record_that_is_not_finite(
    optimizer: Optimizer, activation: Activation, learning_rate: float
) -> None:
    """At any rate, a run either ends with finite records or diverges by name: no other error, no warning."""
    h = Hyperparameters(width=16, depth=5, optimizer=optimizer, activation=activation, learning_rate=learning_rate)
    try:
        result = train(h, digits(400), classes=CLASSES, epochs=2, seed=0)
    except TrainingDiverged:
        return
    assert len(result.records) == 2


@pytest.mark.parametrize("batch", [0, 1, 12])
def test_a_stop_is_obeyed_before_the_next_batch(batch: int) -> None:
    """`should_stop` is asked once a batch, and no batch follows its yes: here 10 batches an epoch."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > batch

    records: list[EpochRecord] = []
    with pytest.raises(TrainingStopped):
        train(
            Hyperparameters(width=8, batch_size=50),
            digits(500),
            classes=CLASSES,
            epochs=3,
            seed=0,
            on_epoch=lambda record, _: records.append(record),
            should_stop=should_stop,
        )
    assert asked == batch + 1
    assert len(records) == batch // 10


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
@pytest.mark.parametrize("decay", [False, True])
def test_a_checkpoint_continues_to_the_bit(optimizer: Optimizer, decay: bool) -> None:
    """From the checkpoint of any epoch the run ends as the undisturbed one does: records, best epoch, weights."""
    h = noisy(optimizer)
    checkpoints: list[bytes] = []
    whole = train(
        h,
        digits(400),
        classes=CLASSES,
        epochs=4,
        seed=5,
        decay=decay,
        on_epoch=lambda _, checkpoint: checkpoints.append(checkpoint()),
    )
    for checkpoint in checkpoints:
        resumed = train(h, digits(400), classes=CLASSES, epochs=4, seed=5, decay=decay, checkpoint=checkpoint)
        assert same(resumed, whole)
        assert resumed.best_epoch == whole.best_epoch


def test_a_checkpoint_remembers_a_best_epoch_before_it() -> None:
    """The best weights so far travel with the checkpoint, and so does the patience already spent."""
    h = OVERSHOOTING
    checkpoints: list[bytes] = []
    whole = train(
        h,
        digits(300, 100),
        classes=CLASSES,
        epochs=12,
        seed=1,
        patience=3,
        on_epoch=lambda _, checkpoint: checkpoints.append(checkpoint()),
    )
    last = train(h, digits(300, 100), classes=CLASSES, epochs=12, seed=1, patience=3, checkpoint=checkpoints[-1])
    assert whole.best_epoch < len(whole.records) < 12
    assert same(last, whole)


@pytest.mark.parametrize(
    "damaged",
    [lambda whole: whole[:-9], lambda whole: whole[:0], lambda whole: b"{" * len(whole), lambda _: NO_CHECKPOINT],
)
def test_a_damaged_checkpoint_is_refused(damaged: Callable[[bytes], bytes]) -> None:
    """Half a checkpoint, none, something else, or another safetensors file."""
    checkpoints: list[bytes] = []
    h = Hyperparameters(width=8)
    train(h, digits(100), classes=CLASSES, epochs=1, seed=0, on_epoch=lambda _, make: checkpoints.append(make()))
    with pytest.raises(DamagedData, match="a checkpoint must be a whole safetensors file"):
        train(h, digits(100), classes=CLASSES, epochs=2, seed=0, checkpoint=damaged(checkpoints[0]))


@pytest.mark.parametrize(
    ("hyperparameters", "seed", "decay"),
    [(Hyperparameters(width=9), 0, False), (Hyperparameters(width=8), 1, False), (Hyperparameters(width=8), 0, True)],
)
def test_another_runs_checkpoint_is_refused(hyperparameters: Hyperparameters, seed: int, decay: bool) -> None:
    """Other hyperparameters, another seed or another course of the learning rate: the error shows both."""
    checkpoints: list[bytes] = []
    h = Hyperparameters(width=8)
    train(h, digits(100), classes=CLASSES, epochs=1, seed=0, on_epoch=lambda _, make: checkpoints.append(make()))
    with pytest.raises(InvalidInput, match="continues only its own run"):
        train(
            hyperparameters, digits(100), classes=CLASSES, epochs=2, seed=seed, decay=decay, checkpoint=checkpoints[0]
        )


def test_decay_rises_and_falls_to_nothing() -> None:
    """100 steps: five of warm-up, the peak, then a fall by equal parts to one that would be 0."""
    course = [rate_factor(step, 100) for step in range(101)]
    assert course[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert np.diff(course[5:]) == pytest.approx(-1 / 95)
    assert course[100] == 0
    assert rate_factor(0, 1) == 1


def test_decay_is_in_force() -> None:
    """The records show the rate of each epoch's last batch, which falls over all epochs, not over each."""
    h = Hyperparameters(width=8, batch_size=50, learning_rate=0.01)
    result = train(h, digits(500), classes=CLASSES, epochs=3, seed=0, decay=True)
    assert [record.learning_rate for record in result.records] == [
        pytest.approx(0.01 * rate_factor(step, 30)) for step in (9, 19, 29)
    ]


def test_denormals_are_zero_in_training_only() -> None:
    """Training computes without denormals, which would make some nets ten times slower, and leaves the thread as it was."""
    tiny = torch.tensor(1e-40)
    seen: list[float] = []
    for before in (False, True):
        torch.set_flush_denormal(before)
        train(
            Hyperparameters(width=4),
            digits(10),
            classes=CLASSES,
            epochs=1,
            seed=0,
            on_epoch=lambda *_: seen.append(tiny.mul(1).item()),
        )
        assert (tiny.mul(1).item() == 0) == before
    torch.set_flush_denormal(False)
    assert seen == [0, 0]


def test_images_of_any_shape_can_be_trained_on() -> None:
    """Colour images too, as long as they are not shifted: then the error names the field."""
    colour = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
    data = prepare(colour[:40], np.arange(40) % 3, colour[40:], np.arange(20) % 3)
    result = train(Hyperparameters(width=5), data, classes=3, epochs=1, seed=0)
    assert predict(result.net, colour).shape == (60, 3)
    with pytest.raises(InvalidInput, match="shift_pixels"):
        train(Hyperparameters(width=5, shift_pixels=1), data, classes=3, epochs=1, seed=0)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "maxout"])
def test_predictions_are_probabilities_with_torch_and_without(activation: Activation) -> None:
    """They are positive and sum to 1, and the service's forward pass in numpy gives the same ones from the same bytes."""
    result = train(Hyperparameters(width=12, activation=activation), digits(300), classes=CLASSES, epochs=1, seed=0)
    images = images_and_labels()[0][:700]
    probabilities = predict(result.net, images)
    assert probabilities.shape == (700, CLASSES)
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert probabilities.min() >= 0
    without = forward.predict(safetensors.numpy.load(to_bytes(result.net)), activation, images)
    assert np.abs(probabilities - without).max() < 1e-5
