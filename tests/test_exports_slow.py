"""The exported scripts on all of MNIST, beside the service's own training. `make slow` runs this; it takes some minutes."""

import importlib.util
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import missing
from tests.digits import CLASSES, digits, images_and_labels
from tests.test_exports import RATES, check_equal_nets, every_kind, namespace, recipe
from tuner.data.idx import read_idx
from tuner.data.installation import MNIST_FILES, PACKAGED_MNIST
from tuner.data.splits import part_sizes, partition
from tuner.exports.recipe import Images, Recipe
from tuner.exports.script import Framework, render
from tuner.nets.evaluation import accuracy
from tuner.nets.training import TrainedNet, train
from tuner.nets.training_data import prepare
from tuner.specs.hyperparameters import Activation, Loss, Optimizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = 60_000
SEEDS = 5


@pytest.fixture(scope="module")
def whole() -> Recipe:
    """A net of 50,000 parameters on 50,000 images, with all that training has."""
    train_count, _ = part_sizes(COUNT)
    images = Images("mnist", (28, 28), CLASSES, COUNT, (0, train_count), (train_count, COUNT))
    small = recipe(
        epochs=3,
        width=64,
        batch_norm=True,
        dropout=0.1,
        shift_pixels=1,
        rotate_degrees=10,
        zoom=0.1,
        batch_size=128,
        weight_decay=1e-5,
    )
    return Recipe(small.origin, images, small.hyperparameters, small.seed, small.epochs, small.epochs)


@pytest.fixture(scope="module")
def ours(whole: Recipe) -> list[tuple[TrainedNet, float]]:
    """The service's nets and their test accuracies: with the recipe's seed, and with others."""
    images, labels = images_and_labels()
    parts = partition(labels)
    data = prepare(images[parts.train], labels[parts.train], images[parts.validation], labels[parts.validation])
    test_images, test_labels = (read_idx(PACKAGED_MNIST / MNIST_FILES[part]) for part in ("test_images", "test_labels"))
    nets = [
        train(
            whole.hyperparameters,
            data,
            classes=CLASSES,
            epochs=whole.epochs,
            seed=whole.seed + k,
            decay=True,
            last=True,
        )
        for k in range(SEEDS)
    ]
    return [(trained, accuracy(trained.net, test_images, test_labels)) for trained in nets]


def run(recipe: Recipe, framework: Framework, folder: Path) -> str:
    """What the script says of the packaged MNIST."""
    path = folder / f"{framework}_script.py"
    path.write_text(render(recipe, framework))
    command = [sys.executable, str(path), "--data", str(PACKAGED_MNIST)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def accuracy_told(said: str) -> float:
    [found] = re.findall(r"test accuracy (\S+)", said)
    return float(found)


def test_the_torch_script_is_the_service(whole: Recipe, ours: list[tuple[TrainedNet, float]], tmp_path: Path) -> None:
    """The same validation accuracy after every epoch, and the same test accuracy."""
    said = run(whole, "torch", tmp_path)
    trained, tested = ours[0]
    told = re.findall(r"validation accuracy (\S+)", said)
    assert told == [f"{record.validation_accuracy:.4f}" for record in trained.records]
    assert accuracy_told(said) == round(tested, 4)


@pytest.mark.parametrize("one", every_kind(), ids=lambda one: one.hyperparameters.activation)
def test_every_torch_script_trains_the_same_net_bit_for_bit(one: Recipe, tmp_path: Path) -> None:
    """With each activation, loss, optimizer and normalisation."""
    check_equal_nets(one, tmp_path)


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras is installed; in this process it computes with torch."""
    if importlib.util.find_spec("keras") is None:
        missing("keras", "keras is not installed; `make slow` installs it")
    monkeypatch.setenv("KERAS_BACKEND", "torch")


@pytest.mark.usefixtures("keras")
def test_the_keras_script_is_as_good(whole: Recipe, ours: list[tuple[TrainedNet, float]], tmp_path: Path) -> None:
    """Its test accuracy lies within four standard deviations, over seeds, of the service's mean."""
    found = accuracy_told(run(whole, "keras", tmp_path))
    tested = [accuracy for _, accuracy in ours]
    mean, deviation = statistics.mean(tested), statistics.stdev(tested)
    print(f"\nkeras {found:.4f}; the service {mean:.4f} ± {deviation:.4f} over seeds: {tested}")  # noqa: T201
    assert abs(found - mean) < 4 * deviation * (1 + 1 / SEEDS) ** 0.5


@pytest.mark.usefixtures("keras")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("activation", "loss", "batch_norm"),
    [("relu", "cross_entropy", False), ("maxout", "mse", True), ("maxout", "mse", False), ("tanh", "mse", True)],
)
@pytest.mark.parametrize("optimizer", RATES)
def test_both_scripts_take_the_same_steps(
    optimizer: Optimizer, activation: Activation, loss: Loss, batch_norm: bool, tmp_path: Path
) -> None:
    """From the same weights and on the same batches, thirty steps of Keras and of torch end at the same weights."""
    one = recipe(
        epochs=3,
        optimizer=optimizer,
        activation=activation,
        loss=loss,
        batch_norm=batch_norm,
        weight_decay=1e-2,
        depth=2,
    )
    in_torch, in_keras = (namespace(one, framework, tmp_path) for framework in ("torch", "keras"))
    data, size, steps = digits(600), one.hyperparameters.batch_size, 40
    images, labels = data.train_images.numpy(), data.train_labels.numpy()
    theirs = in_torch["Net"](torch.Generator().manual_seed(0), *in_torch["moments"](images))
    mine = in_keras["make_net"](images)
    before = weights_of(theirs)
    for variable, value in zip(mine.trainable_variables, before, strict=True):
        variable.assign(value)
    mine.compile(in_keras["make_optimizer"](steps), in_keras["loss_of"])
    update = in_torch["optimizer_of"](theirs)
    schedule = torch.optim.lr_scheduler.LambdaLR(update, lambda step: in_torch["rate_factor"](step, steps))
    for step in range(30):
        batch = slice(step % 15 * size, (step % 15 + 1) * size)
        mine.train_on_batch(images[batch].reshape(size, -1), labels[batch])
        update.zero_grad()
        in_torch["loss_of"](theirs(data.train_images[batch]), data.train_labels[batch]).backward()
        update.step()
        schedule.step()
    moved = max(np.abs(now - then).max() for now, then in zip(weights_of(theirs), before, strict=True))
    apart = max(np.abs(k - t).max() for k, t in zip(in_keras_layout(mine), weights_of(theirs), strict=True))
    assert apart < (2e-4 if batch_norm else 1e-4) * moved  # a batch's variance is rounded otherwise


def in_keras_layout(net: Any) -> list[np.ndarray[Any, Any]]:
    return [variable.value.detach().numpy() for variable in net.trainable_variables]


def weights_of(net: torch.nn.Module) -> list[np.ndarray[Any, Any]]:
    """In the order and layout of Keras."""
    return [parameter.detach().numpy().T.copy() for parameter in net.parameters()]
