"""The scripts that a configuration is exported as: they are Python, and do what the service's training does."""

import itertools
import re
import runpy
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tests.digits import CLASSES, digits, images_and_labels
from tuner.data.splits import part_sizes, partition
from tuner.exports.recipe import Images, Origin, Recipe
from tuner.exports.script import Framework, render
from tuner.nets.denormals import denormals_are_zero
from tuner.nets.training import train
from tuner.nets.training_data import TrainingData, prepare
from tuner.specs.hyperparameters import Activation, Hyperparameters, Loss, Normalisation, Optimizer

FRAMEWORKS: tuple[Framework, ...] = ("torch", "keras")
COUNT, TESTED = 240, 60
"""Training images, before the split, and test images of the small data set here."""

RATES: dict[Optimizer, float] = {"sgd": 0.1, "momentum": 0.03, "rmsprop": 1e-3, "adam": 1e-3}
POINTS: dict[str, dict[str, Any]] = {
    "plain": {"optimizer": "sgd", "activation": "sigmoid", "weight_decay": 0.0},
    "raw pixels": {"optimizer": "adam", "activation": "tanh", "loss": "mse", "normalisation": "none"},
    "maxout": {"optimizer": "momentum", "activation": "maxout", "maxout_pieces": 3, "depth": 3, "dropout": 0.4},
    "shifts": {
        "optimizer": "rmsprop",
        "rmsprop_alpha": 0.8,
        "shift_pixels": 2,
        "normalisation": "scale",
        "loss": "mse",
    },
    "normalised": {"batch_norm": True, "activation": "maxout", "batch_size": 199, "dropout": 0.1},
    "turns": {"rotate_degrees": 10.0, "optimizer": "sgd"},
    "everything": {
        "zoom": 0.2,
        "input_dropout": 0.1,
        "dropout": 0.2,
        "shift_pixels": 1,
        "weight_decay": 1e-2,
        "depth": 1,
    },
}


def recipe(epochs: int = 3, kept: int | None = None, **hyperparameters: Any) -> Recipe:
    """Of a run on all images of a small data set."""
    train_count, _ = part_sizes(COUNT)
    images = Images("digits", (28, 28), CLASSES, COUNT, (0, train_count), (train_count, COUNT))
    origin = Origin("study", "promotion", 1, "trial-7", "5f2c9a7e01b34d68", 0.9, 0.8)
    point = {"width": 20, "batch_size": 32, "learning_rate": RATES[hyperparameters.get("optimizer", "adam")]}
    return Recipe(
        origin,
        images,
        Hyperparameters(**{**point, **hyperparameters}),
        seed=5,
        epochs=epochs,
        kept_epoch=kept or epochs,
    )


def namespace(recipe: Recipe, framework: Framework, folder: Path) -> dict[str, Any]:
    """What the script defines."""
    path = folder / "script.py"
    path.write_text(render(recipe, framework))
    return runpy.run_path(str(path))


def every_kind() -> list[Recipe]:
    """Each activation with each loss, optimizer and normalisation; what else there is, in half of them."""
    kinds = itertools.product(*map(get_args, (Activation, Loss, Optimizer, Normalisation)))
    return [
        recipe(
            activation=activation,
            loss=loss,
            optimizer=optimizer,
            normalisation=normalisation,
            learning_rate=RATES[optimizer] * (1e-4 if normalisation == "none" else 1),
            dropout=0.2 * (k % 2),
            input_dropout=0.1 * (k // 2 % 2),
            shift_pixels=k // 4 % 2,
            rotate_degrees=10.0 * (k // 8 % 2),
            zoom=0.1 * (k // 16 % 2),
            batch_norm=k // 32 % 2 == 1,
        )
        for k, (activation, loss, optimizer, normalisation) in enumerate(kinds)
    ]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_script_is_python_as_one_would_write_it(framework: Framework, tmp_path: Path) -> None:
    """Each compiles, is laid out as ruff lays it out, and uses every name that it defines or imports."""
    for k, one in enumerate(every_kind()):
        source = render(one, framework)
        compile(source, f"{framework}-{k}.py", "exec")
        (tmp_path / f"{k}.py").write_text(source)
        constants = re.findall(r"^([A-Z_]{3,}) =", source, re.MULTILINE)
        assert [name for name in constants if source.count(name) < 2] == []
    for command in (
        ["check", "--select", "E,F,I,B", "--line-length", "130"],
        ["format", "--check", "--line-length", "120"],
    ):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", str(tmp_path)]
        checked = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", POINTS)
def test_the_torch_script_trains_the_same_net_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Its weights equal those of the service's own training: first weights, dropout, shifts, loss, updates, rate."""
    check_equal_nets(recipe(**POINTS[name]), tmp_path)


def test_the_torch_script_keeps_the_same_epoch(tmp_path: Path) -> None:
    """Where the service's net is an earlier one, as by wrong labels it mostly is."""
    data = digits(200, 100)
    others = [replace(data, validation_labels=(data.validation_labels + k) % CLASSES) for k in range(1, CLASSES)]
    nets = [train(recipe().hyperparameters, wrong, classes=CLASSES, epochs=3, seed=5, decay=True) for wrong in others]
    wrong, epoch = next((wrong, net.best_epoch) for wrong, net in zip(others, nets, strict=True) if net.best_epoch < 3)
    check_equal_nets(recipe(epochs=3, kept=epoch), tmp_path, wrong)


def check_equal_nets(one: Recipe, tmp_path: Path, data: TrainingData | None = None) -> None:
    script = namespace(one, "torch", tmp_path)
    data = data or digits(200, 100)
    arrays = data.train_images, data.train_labels, data.validation_images, data.validation_labels
    with denormals_are_zero():
        theirs = script["train"](*arrays)
    last = one.kept_epoch == one.epochs
    trained = train(one.hyperparameters, data, classes=CLASSES, epochs=one.epochs, seed=one.seed, decay=True, last=last)
    ours = trained.net
    found = theirs.state_dict()
    layers = [*(f"hidden.{k}" for k in range(one.hyperparameters.depth)), "output"]
    for layer, weight, bias in zip(layers, ours.weights, ours.biases, strict=True):
        assert torch.equal(found[f"{layer}.weight"], weight)
        assert torch.equal(found[f"{layer}.bias"], bias)
    for k in range(one.hyperparameters.depth if one.hyperparameters.batch_norm else 0):
        assert torch.equal(found[f"hidden.{k}.mean"], ours.get_buffer(f"mean_{k}"))
        assert torch.equal(found[f"hidden.{k}.variance"], ours.get_buffer(f"variance_{k}"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small data set as IDX files, one of them gzipped, beside a file of another kind."""
    images, labels = images_and_labels()
    folder = tmp_path / "digits"
    folder.mkdir()
    for name, array in {
        "train-images-idx3-ubyte": images[:COUNT],
        "train-labels-idx1-ubyte": labels[:COUNT],
        "t10k-images-idx3-ubyte": images[COUNT : COUNT + TESTED],
        "t10k-labels-idx1-ubyte": labels[COUNT : COUNT + TESTED],
    }.items():
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / name).write_bytes(header + array.tobytes())
    (folder / "README").write_text("digits")
    return folder


def test_a_script_runs_by_itself(folder: Path, tmp_path: Path) -> None:
    """Given a folder of IDX files it trains, tells its epochs and last the test accuracy, which is that of the service's net; it
    imports nothing of this package."""
    one = recipe()
    path = tmp_path / "script.py"
    path.write_text(render(one, "torch"))
    ran = subprocess.run(
        [sys.executable, "-I", str(path), "--data", str(folder)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    images, labels = images_and_labels()
    parts = partition(labels[:COUNT])
    data = prepare(images[parts.train], labels[parts.train], images[parts.validation], labels[parts.validation])
    ours = train(one.hyperparameters, data, classes=CLASSES, epochs=one.epochs, seed=one.seed, decay=True, last=True)
    told = re.findall(r"validation accuracy (\S+)", ran.stdout)
    assert told == [f"{record.validation_accuracy:.4f}" for record in ours.records]
    with torch.inference_mode():
        answers = ours.net(torch.from_numpy(images[COUNT : COUNT + TESTED].copy())).argmax(1).numpy()
    accuracy = float((answers == labels[COUNT : COUNT + TESTED]).mean())
    assert ran.stdout.splitlines()[-1] == f"test accuracy {accuracy:.4f}"
    assert "tuner" not in re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE)


def test_a_script_reads_npz_and_refuses_other_data(folder: Path, tmp_path: Path) -> None:
    """One .npz has the same images; a data set of another size and one without its test part are refused in a sentence."""
    script = namespace(recipe(), "torch", tmp_path)
    arrays = dict(zip(("x_train", "y_train", "x_test", "y_test"), script["read_images"](folder), strict=True))
    whole, small, half = tmp_path / "whole.npz", tmp_path / "small.npz", tmp_path / "half.npz"
    np.savez(whole, **arrays)
    np.savez(small, **{name: array[:50] for name, array in arrays.items()})
    np.savez(half, x_train=arrays["x_train"], y_train=arrays["y_train"])
    for ours, theirs in zip(script["load"](folder), script["load"](whole), strict=True):
        assert np.array_equal(ours, theirs)
    with pytest.raises(SystemExit, match=r"240 training images, but .*small\.npz has 50"):
        script["load"](small)
    with pytest.raises(SystemExit, match="has no x_test, y_test"):
        script["load"](half)


def test_a_script_says_where_it_comes_from() -> None:
    """Its header names the study, the trial, the model and both accuracies."""
    header = render(recipe(), "keras").split('"""')[1]
    for said in ("study study", "trial-7", "5f2c9a7e01b34d68", "0.9000", "0.8000", "--data FOLDER"):
        assert said in header
