"""The notes' experiments, and the bagging and the distillation in them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conftest import wait_until
from tests.digits import CLASSES, digits
from tuner.nets.bagging import average, bootstrap
from tuner.nets.distillation import Lessons, distilled
from tuner.nets.mlp import MLP
from tuner.nets.training import train
from tuner.nets.weights import to_bytes
from tuner.specs.hyperparameters import Hyperparameters
from tuner.store.database import open_database, reading
from tuner.store.ledger import load_openings

TUNER = Path(sys.executable).with_name("tuner")


def _bag(point: Hyperparameters) -> list[MLP]:
    return [train(point, digits(400), classes=CLASSES, epochs=1, seed=seed).net for seed in (1, 2)]


def test_a_bag_of_one_says_what_its_member_says() -> None:
    """To the bit; and a bag of two says the mean."""
    one, other = np.random.default_rng(0).random((2, 5, 3), dtype=np.float32)
    assert np.array_equal(average([one]), one)
    assert np.allclose(average([one, other]), (one + other) / 2)
    with pytest.raises(ValueError, match="at least one"):
        average([])


def test_a_bootstrap_sample_leaves_a_third_out_and_comes_again() -> None:
    """1/e of the images are not drawn; a seed names a sample."""
    sample = bootstrap(10_000, 4)
    assert len(sample) == 10_000
    assert abs(1 - len(np.unique(sample)) / 10_000 - np.exp(-1)) < 0.02
    assert np.array_equal(sample, bootstrap(10_000, 4))
    assert not np.array_equal(sample, bootstrap(10_000, 5))


def test_a_soft_weight_of_zero_is_plain_training() -> None:
    """To the bit, whatever the teacher says; with another weight it is another net."""
    point = Hyperparameters(width=16, dropout=0.2)
    bag = _bag(point)
    plain = train(point, digits(400), classes=CLASSES, epochs=2, seed=3)
    zero, half = (
        train(point, digits(400), classes=CLASSES, epochs=2, seed=3, lessons=Lessons(bag, (1, 1), 3.0, weight))
        for weight in (0.0, 0.5)
    )
    assert to_bytes(zero.net) == to_bytes(plain.net)
    assert to_bytes(half.net) != to_bytes(plain.net)


def test_a_teacher_is_asked_for_the_images_that_its_student_sees() -> None:
    """Shifted as they are; it answers the average of its members, each as often as it has votes."""
    point = Hyperparameters(width=16, shift_pixels=2)
    seen = []

    class Listening(Lessons):
        def probabilities(self, images: torch.Tensor) -> torch.Tensor:
            seen.append((images, super().probabilities(images)))
            return seen[-1][1]

    bag, data = _bag(point), digits(400)
    train(point, data, classes=CLASSES, epochs=1, seed=3, lessons=Listening(bag, (1, 3), 3.0, 0.5))
    plain = {image.numpy().tobytes() for image in data.train_images}
    shown = [image for images, _ in seen for image in images]
    assert len(shown) == 400
    assert sum(image.numpy().tobytes() in plain for image in shown) < 40  # one in 25 is shifted by nothing
    images, said = seen[0]
    one, other = (net(images).softmax(1) for net in bag)
    assert torch.allclose(said, (one + 3 * other) / 4, atol=1e-6)


def test_the_distilled_loss_is_least_where_student_and_teacher_agree() -> None:
    """At soft weight 1 its gradient there is zero; and T² is in it, by hand."""
    generator = torch.Generator().manual_seed(2)
    teacher = torch.randn((6, 4), generator=generator)
    student = teacher.clone().requires_grad_()
    distilled(torch.tensor(9.0), student, teacher.softmax(1), Lessons([], [], 3.0, 1.0)).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6
    other = torch.randn((6, 4), generator=generator)
    soft = -((teacher / 3).softmax(1) * F.log_softmax(other / 3, 1)).sum(1).mean()
    found = distilled(torch.tensor(2.0), other, teacher.softmax(1), Lessons([], [], 3.0, 0.25))
    assert torch.isclose(found, 0.75 * 2 + 0.25 * 9 * soft)


def _notes(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TUNER_DATA_DIR": str(folder), "TUNER_PARALLEL": "2"}
    return subprocess.run([TUNER, "notes", *arguments], env=environment, capture_output=True, text=True, check=False)


def test_the_command_runs_the_notes_and_enters_its_opening(tmp_path: Path) -> None:
    """A row for each arm, the table's on the test set, with one entry of its own in the ledger; the bag, too; else it refuses."""
    file = tmp_path / "rows.json"
    ended = _notes(tmp_path, "--quick", "--only", "optimizers", "--only", "bagging", "--json", str(file))
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(file.read_text())
    assert [row["arm"] for row in rows] == [
        "RMSProp",
        "Adam",
        "SGD",
        "SGD, one epoch",
        "SGD at 0.1",
        "single",
        "bag",
        "student",
    ]
    assert [row["images"] for row in rows] == ["test"] * 5 + ["validation"] * 3
    assert {row["images_count"] for row in rows} == {10_000, 8_000}
    by_arm = {row["arm"]: row["accuracy"] for row in rows}
    assert by_arm["Adam"] > 0.8
    assert by_arm["SGD"] > by_arm["SGD, one epoch"]
    assert min(by_arm["bag"], by_arm["student"]) > 0.8
    assert "0.9686" in ended.stdout
    engine = open_database(f"sqlite:///{tmp_path / 'tuner.db'}")
    checksum = json.loads((tmp_path / "datasets" / "mnist" / "dataset.json").read_text())["checksum"]
    with reading(engine) as connection:
        [opening] = load_openings(connection, checksum)
    engine.dispose()
    assert opening.study_name == "tuner notes"
    assert len(opening.models) == 5
    refused = _notes(tmp_path, "--only", "nonsense")
    assert refused.returncode == 1
    assert "nonsense" in refused.stderr


def test_ctrl_c_ends_the_command_and_its_workers(tmp_path: Path) -> None:
    """With exit code 130, no traceback, no process left behind, and no opening of the test set."""
    environment = {**os.environ, "TUNER_DATA_DIR": str(tmp_path), "TUNER_PARALLEL": "2"}
    command = subprocess.Popen(
        [TUNER, "notes", "--only", "optimizers"], env=environment, stderr=subprocess.PIPE, text=True
    )
    children: set[int] = set()

    def working() -> bool:
        # The executor's fork server has two workers, so it is at their work.
        here = _children(command.pid)
        children.update(here, *(_children(child) for child in here))
        return any(len(_children(child)) == 2 for child in here)

    wait_until(working, "two workers are up")
    command.send_signal(signal.SIGINT)
    _, told = command.communicate(timeout=90)
    assert command.returncode == 130
    assert "Traceback" not in told
    wait_until(
        lambda: not any(Path(f"/proc/{child}").exists() for child in children), "its processes are gone", seconds=10
    )
    assert not (tmp_path / "tuner.db").exists()


def _children(process: int) -> set[int]:
    try:
        return set(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))
    except OSError:
        return set()
