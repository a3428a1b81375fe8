"""A bag of the race's winner and its student, from training to prediction: real nets on real digits."""

import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from tests.conftest import connect, wait_until
from tests.digits import TEST_IMAGES, images_and_labels
from tests.house import House, open_house
from tuner.data.splits import partition
from tuner.nets.bagging import average, bootstrap, choose, cross_entropy, select
from tuner.nets.distillation import Lessons
from tuner.nets.training import train
from tuner.nets.training_data import prepare
from tuner.nets.weights import from_bytes, to_bytes
from tuner.runner.coordinator import coordinate
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.verdict import BagMember, Ensemble
from tuner.stages.ensemble import Assembled, assemble
from tuner.stages.finalists import train_finalists
from tuner.stages.job import RunningJob
from tuner.stages.promotion import Promoted, promote
from tuner.stages.retraining import stage_seeds
from tuner.stages.search import search
from tuner.stages.view import derive_seed
from tuner.store import jobs, ledger, model_registry, runs, tables
from tuner.store.database import reading, writing
from tuner.store.jobs import JobState
from tuner.store.ledger import Opener
from tuner.store.model_files import StoredNet, read_config, read_weights
from tuner.store.model_registry import Model
from tuner.store.runs import Run, RunState, Stage

WANTED = {"members": 3, "student": True}
STAGES: tuple[Stage, ...] = ("promotion", "verdict", "ensemble")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("ensemble")) as house:
        yield house


@pytest.fixture(scope="module")
def whole(house: House) -> RunningJob:
    """The job of a study with an ensemble that has come to its end."""
    job = house.post("whole", ensemble=WANTED)
    coordinate(job)
    row = house.row(job)
    assert (row.state, row.stop_reason, row.error) == (JobState.SUCCEEDED, "n_trials", None)
    return job


@pytest.fixture(scope="module")
def closed(house: House, whole: RunningJob) -> RunningJob:
    """A job of the kind `ensemble` on the same study, whose test set has been opened."""
    job = house.queue(whole.study_id, kind="ensemble", epochs=1, ensemble={"members": 2, "student": True})
    coordinate(job)
    return job


def told(house: House, job: RunningJob) -> Ensemble:
    found = house.verdict(job).ensemble
    assert found is not None
    return found


def kept(house: House, job: RunningJob) -> dict[str, Model]:
    """The job's models by their kinds."""
    with reading(house.engine) as connection:
        found = model_registry.list_models(connection, None, 100, job.study_id)
    return {model.kind: model for model in found if model.job_id == job.lease.job_id}


def net_of(house: House, job: RunningJob, member: BagMember) -> StoredNet:
    """As it was trained in race, verdict or bag."""
    runs = [run for stage in STAGES for run in house.trained(job, stage)]
    same = (run for run in runs if run.seed == member.seed and run.hyperparameters == member.hyperparameters)
    [run] = [run for run in same if (run.stage == "ensemble") == member.bootstrap]
    return weights_of(job, run)


def weights_of(job: RunningJob, run: Run) -> StoredNet:
    return StoredNet.from_bytes(read_weights(job.models_dir / str(run.weights)), run.hyperparameters.activation)


def test_after_the_race_most_validation_images_are_trained_on(house: House, whole: RunningJob) -> None:
    """The race's nets have 3,000 images and are judged by 600; those of verdict and ensemble have 3,480, and 120 judge them. Each
    is the net, bit for bit, that training on just these images makes, and has its accuracy on just the others. It is of the last
    epoch."""
    delivered = house.verdict(whole).delivered
    assert (delivered.train_images, delivered.validation_images) == (3480, 120)
    images, labels = images_and_labels()
    order = partition(labels[:3600]).order
    counts: dict[Stage, int] = {"promotion": 3000, "verdict": 3480, "ensemble": 3480}
    for stage, count in counts.items():
        run = next(run for run in house.trained(whole, stage) if not run.contender.startswith("student"))
        trained, others = order[:count], order[count:]
        if stage == "ensemble":
            trained = trained[bootstrap(count, run.seed)]
        data = prepare(images[trained], labels[trained], images[others], labels[others])
        again = train(run.hyperparameters, data, classes=10, epochs=2, seed=run.seed, decay=True, last=True)
        assert to_bytes(again.net) == read_weights(whole.models_dir / str(run.weights)), stage
        right = weights_of(whole, run).predict(images[others]).argmax(1) == labels[others]
        assert run.validation_accuracy == pytest.approx(right.mean()), stage


def test_nets_that_an_earlier_version_has_trained_after_the_race_are_not_taken(house: House) -> None:
    """Their seeds are others, as they had other images: a job that such a version has begun to judge trains its own."""
    job = house.post("begun")
    older = derive_seed(job.spec.seed, *b"verdict")
    with writing(house.engine) as connection:
        run_id = runs.start_run(connection, job.lease, "verdict", "default", older, Hyperparameters(), 1)
        runs.end_run(connection, run_id, RunState.COMPLETE, validation_accuracy=1.0, seconds=1.0)
    coordinate(job)
    assert house.row(job).state == JobState.SUCCEEDED
    own = stage_seeds(job.spec.seed, "verdict", 2)
    assert [run.seed for run in house.trained(job, "verdict") if run.contender == "default"] == [older, *own]
    told = house.verdict(job)
    assert told.default_net is not None
    assert {told.delivered.seed, told.default_net.seed} <= set(own)


def test_the_bag_says_what_its_members_say_on_average(house: House, whole: RunningJob) -> None:
    """On the sealed images it has right what the average of its members' probabilities has; it has as many parameters as they."""
    members, [opening] = told(house, whole).members, house.openings(whole)
    images, labels = (all_of[-TEST_IMAGES:] for all_of in images_and_labels())
    nets = [net_of(house, whole, member) for member in members for _ in range(member.votes)]
    right = int((average([net.predict(images) for net in nets]).argmax(1) == labels).sum())
    bag = kept(house, whole)["bag"]
    assert opening.reading is not None
    assert opening.reading[bag.sha256] == {"correct": right, "images": TEST_IMAGES}
    assert bag.metrics.test_accuracy == pytest.approx(right / TEST_IMAGES)
    sizes = {run.hyperparameters: run.parameters for stage in STAGES for run in house.trained(whole, stage)}
    assert bag.parameters == sum(sizes[member.hyperparameters] for member in members)


def test_the_bag_is_all_nets_of_the_winner_or_a_better_selection(
    house: House, whole: RunningJob, closed: RunningJob
) -> None:
    """On the validation images that no net was trained on nothing is lost against the average of all the winner's nets, of race,
    verdict and bag; and where no selection was better, the bag is these."""
    images, labels = images_and_labels()
    order = partition(labels[:3600]).order[3480:]
    images, labels = images[order], labels[order]
    for job in (whole, closed):
        found, winner = told(house, job), house.verdict(job).race.winner
        trained = [run for stage in STAGES for run in house.trained(job, stage)]
        own = [run for run in trained if run.contender in (winner, f"member-{winner}")]
        assert {run.stage for run in own} == set(STAGES)
        alike = [weights_of(job, run) for run in own]
        bag = [net_of(house, job, member) for member in found.members for _ in range(member.votes)]
        lost = [cross_entropy(average([net.predict(images) for net in nets]), labels) for nets in (bag, alike)]
        assert lost[0] <= lost[1] + 1e-6
        if found.selection == "bag":  # which it is, a test of `choose` holds
            assert [member.votes for member in found.members] == [1] * len(own)
            assert {member.seed for member in found.members} == {run.seed for run in own}


def test_members_have_fresh_seeds_and_bootstrap_samples(house: House, whole: RunningJob) -> None:
    """As many as wanted, of the winner's configuration, each with a seed that race and verdict have not used."""
    trained = house.trained(whole, "ensemble")
    members = [run for run in trained if run.contender.startswith("member-")]
    winner = kept(house, whole)["single"]
    assert len({run.seed for run in members}) == 3 == told(house, whole).members_trained
    assert {run.hyperparameters for run in trained} == {winner.hyperparameters}
    used = {run.seed for stage in ("promotion", "verdict") for run in house.trained(whole, stage)}
    assert used.isdisjoint(run.seed for run in trained)
    for member in told(house, whole).members:
        assert member.bootstrap == (member.contender == "member")


def test_the_student_has_learnt_from_the_winners_nets_for_twice_the_epochs(house: House, whole: RunningJob) -> None:
    """It is the net, bit for bit, that training on what three of them say makes: those of the verdict, and then of the race."""
    winner = house.verdict(whole).race.winner
    [student] = [run for run in house.trained(whole, "ensemble") if run.contender.startswith("student")]
    own = {stage: [run for run in house.trained(whole, stage) if run.contender == winner] for stage in STAGES}
    teachers = [*reversed(own["verdict"]), *reversed(own["promotion"])][:3]
    nets = [
        from_bytes(read_weights(whole.models_dir / str(run.weights)), run.hyperparameters, 784, 10) for run in teachers
    ]
    images, labels = images_and_labels()
    trained, others = np.split(partition(labels[:3600]).order, [3480])
    data = prepare(images[trained], labels[trained], images[others], labels[others])
    again = train(
        student.hyperparameters,
        data,
        classes=10,
        epochs=4,
        seed=student.seed,
        decay=True,
        last=True,
        lessons=Lessons(nets, (1, 1, 1), temperature=1.0, weight=0.5),
    )
    assert to_bytes(again.net) == read_weights(whole.models_dir / str(student.weights))


def test_the_student_has_the_winners_size_and_is_weighed_against_net_and_bag(house: House, whole: RunningJob) -> None:
    """All gains are differences of what the one opening's reading has right."""
    models, ensemble, [opening] = kept(house, whole), told(house, whole), house.openings(whole)
    assert set(models) == {"single", "default", "bag", "student"}
    assert models["student"].parameters == models["single"].parameters
    configs = {kind: read_config(whole.models_dir / model.id) for kind, model in models.items()}
    assert {kind: config.epochs for kind, config in configs.items()} == {
        "single": 2,
        "default": 2,
        "bag": 2,
        "student": 4,
    }
    assert opening.reading is not None
    share = {kind: opening.reading[model.sha256]["correct"] / TEST_IMAGES for kind, model in models.items()}
    assert ensemble.bag_gain == pytest.approx(share["bag"] - share["single"])
    assert ensemble.student_gain == pytest.approx(share["student"] - share["single"])
    assert ensemble.student_behind_bag == pytest.approx(share["bag"] - share["student"])
    for gain, interval in (
        (ensemble.bag_gain, ensemble.bag_interval),
        (ensemble.student_gain, ensemble.student_interval),
    ):
        assert gain is not None
        assert interval is not None
        assert interval[0] <= gain <= interval[1]


def test_its_runs_are_counted_and_nothing_of_the_teacher_is_left(house: House, whole: RunningJob) -> None:
    """All epochs that were trained count as done, and none is left; the teachers' copy is gone from the disk."""
    costs = {cost.stage: cost.runs for cost in house.verdict(whole).costs}
    assert list(costs) == ["rung", "optimism", "local_search", "promotion", "verdict", "ensemble"]
    assert costs["ensemble"] == 4
    row = house.row(whole)
    assert row.progress_done == row.progress_total == 8 + 2 * sum(costs.values()) + 2  # a student has twice the epochs
    assert not list(whole.models_dir.glob("teacher-*"))


@pytest.mark.parametrize(("name", "begun"), [("student-disturbed", 1), ("member-disturbed", 2)])
def test_an_interrupted_ensemble_comes_to_the_same_end(name: str, begun: int, house: House, whole: RunningJob) -> None:
    """A job that its runner gives back while the student is trained, or then a member, finds what one left alone finds, and has
    trained no net twice."""
    job = house.post(name, ensemble=WANTED)
    thread = threading.Thread(target=coordinate, args=(job,))
    thread.start()
    wait_until(lambda: len(house.trained(job, "ensemble")) >= begun, "the net is trained")
    job.ending.set()
    thread.join(60)
    assert house.row(job).state == JobState.QUEUED
    again = house.claim()
    coordinate(again)
    assert told(house, again) == told(house, whole)
    assert len(house.openings(again)) == 1
    assert len(house.trained(again, "ensemble")) == 4


def set_limit(house: House, job: RunningJob, seconds_left: float, of_a_net: float = 10.0) -> None:
    """Of the job's time, where a fresh net of the verdict has taken `of_a_net`."""
    house.change(job, "budget", timeout_seconds=job.elapsed_seconds + seconds_left)
    with writing(house.engine) as connection:
        mine = (tables.runs.c.job_id == job.lease.job_id) & (tables.runs.c.stage == "verdict")
        connection.execute(update(tables.runs).where(mine).values(seconds=of_a_net))


def assembled(job: RunningJob, promoted: Promoted) -> Assembled:
    assert job.promotion is not None
    found = assemble(job, job.promotion, promoted, train_finalists(job, job.promotion, promoted))
    assert found is not None
    return found


def searched_and_promoted(job: RunningJob) -> Promoted:
    assert job.promotion is not None
    search(job)
    promoted = promote(job, job.promotion)
    train_finalists(job, job.promotion, promoted)
    return promoted


def test_what_there_is_no_time_for_is_left_out_and_told(house: House) -> None:
    """A net takes 10 s, a student of twice the epochs 37, on one worker: in 40 s there is time for that student alone, in 35
    more for all members, since it has ended."""
    job = house.post("hurried", ensemble=WANTED)
    promoted = searched_and_promoted(job)
    for left, members in ((40.0, 0), (35.0, 3)):
        set_limit(house, job, left)
        found = assembled(job, promoted)
        assert (found.told.members_trained, found.told.members_wanted) == (members, 3)
        assert [(built.kind, built.epochs) for built in found.built] == [("bag", 2), ("student", 4)]
        assert ("no time for more" in found.told.words) == (members == 0)


def test_a_student_is_trained_as_long_as_there_is_time(house: House) -> None:
    """In no time there is none, and no member, but the race's nets make a bag; in 15 s there is a member. In 20 s more there is a
    student of as many epochs, which takes 19."""
    job = house.post("hurried-more", ensemble=WANTED)
    promoted = searched_and_promoted(job)
    for left, members, students in ((0.0, 0, []), (15.0, 1, []), (20.0, 1, [("student", 2)])):
        set_limit(house, job, left)
        found = assembled(job, promoted)
        assert found.told.members_trained == members
        assert [(built.kind, built.epochs) for built in found.built] == [("bag", 2), *students]
        assert ("no time or no end for a student" in found.told.words) == (not students)
        assert ("trained for 2 epochs only" in found.told.words) == bool(students)


def test_after_the_opening_no_net_joins_the_list(house: House) -> None:
    """A time limit has cut the student; then the test set was opened, without it, and the job was killed. When it goes on and has
    time again, the student's training is not: else its list would be another one than was opened, and have no accuracy."""
    job = house.post("cut", ensemble=WANTED)
    promoted = searched_and_promoted(job)
    [bag, student] = assembled(job, promoted).built
    assert job.promotion is not None
    finals = train_finalists(job, job.promotion, promoted)
    opened = [bag.sha256, *(net.sha256 for finalist in finals.finalists for net in finalist.nets)]
    opener = Opener(job.study_id, job.name, job.lease.job_id, job.dataset.name, job.dataset.checksum)
    with writing(house.engine) as connection:
        mine = (tables.runs.c.job_id == job.lease.job_id) & (tables.runs.c.seed == student.seed)
        connection.execute(update(tables.runs).where(mine).values(state=RunState.RUNNING, weights=None))
        ledger.record_opening(connection, opener, opened)
        jobs.give_back(connection, job.lease)
    again = house.claim()
    coordinate(again)
    assert (house.row(again).state, house.row(again).stop_reason) == (JobState.SUCCEEDED, "n_trials")
    [opening] = house.openings(again)
    assert set(opening.models) == set(opened)
    assert set(kept(house, again)) == {"single", "default", "bag"}


def test_a_closed_test_set_leaves_it_unscored(house: House, whole: RunningJob, closed: RunningJob) -> None:
    """A job of the kind `ensemble` on a study that has opened the test set keeps a bag and a student of other nets without a test
    accuracy; forced, it scores them, and says so."""
    assert house.row(closed).stop_reason == "test_set_sealed"
    assert (told(house, closed).bag_gain, told(house, closed).student_gain) == (None, None)
    assert kept(house, closed)["bag"].metrics.test_accuracy is None
    forced = house.queue(
        whole.study_id, kind="ensemble", epochs=1, ensemble={"members": 2, "student": True}, force_test=True
    )
    coordinate(forced)
    assert house.row(forced).stop_reason == "promoted"
    assert told(house, forced).bag_gain is not None


def test_a_bag_predicts_over_rest_and_comes_whole(house: House, whole: RunningJob) -> None:
    """`predict` answers the average of the members' probabilities; the download's card and configuration name its members."""
    bag = kept(house, whole)["bag"]
    images = images_and_labels()[0][-3:]
    members = told(house, whole).members
    nets = [net_of(house, whole, member) for member in members for _ in range(member.votes)]
    with connect(house.settings) as api:
        answer = api.post(f"/v1/models/{bag.id}/predict", json={"images": images.tolist()}).raise_for_status().json()
        packed = api.get(f"/v1/models/{bag.id}/download").raise_for_status()
    assert np.allclose(answer["probabilities"], average([net.predict(images) for net in nets]), atol=1e-6)
    assert packed.headers["Content-Disposition"].endswith('"whole-bag.zip"')
    folder = whole.models_dir / bag.id
    assert hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest() == bag.sha256
    config = json.loads((folder / "config.json").read_text())
    assert [member["seed"] for member in config["members"]] == [member.seed for member in members]
    assert f"A bag of {len(members)} nets" in (folder / "README.md").read_text()


SURE, UNSURE = [0.9, 0.1], [0.6, 0.4]


@pytest.mark.parametrize(
    ("own", "chosen", "greedy"),
    [
        ([0, 1, 2], [0, 1, 2], False),  # two votes cannot have three parts
        ([0, 1], [2, 0], True),
        ([0], [2, 0], True),
    ],
)
def test_the_better_bag_is_chosen(own: list[int], chosen: list[int], greedy: bool) -> None:
    """Three nets are each sure of a third of the images, the last one of a little more, and know nothing of the others: all three
    are better than any two."""
    labels = np.arange(10) % 2
    sure = (np.arange(3), np.arange(3, 6), np.arange(6, 10))
    said = [np.full((10, 2), 0.5) for _ in sure]
    for net, images in zip(said, sure, strict=True):
        net[images] = np.eye(2)[labels[images]]
    assert choose(said, labels, 2, own) == (chosen, greedy)


@pytest.mark.parametrize(
    ("said", "most", "chosen"),
    [
        ([[SURE, SURE], [SURE[::-1], SURE[::-1]]], 5, [0]),  # more of the best brings nothing
        ([[SURE, SURE[::-1]], [SURE, SURE], [UNSURE[::-1], SURE]], 5, [1]),
        ([[SURE, SURE, SURE[::-1]], [UNSURE[::-1], UNSURE, SURE]], 2, [1, 0]),  # two that make up for each other
        ([[SURE, SURE, SURE[::-1]], [UNSURE[::-1], UNSURE, SURE]], 1, [1]),
        ([[UNSURE, UNSURE], [UNSURE, SURE]], 5, [1]),  # both have all right; the second one is surer
    ],
)
def test_a_selection_takes_what_makes_the_average_better(said: Any, most: int, chosen: list[int]) -> None:
    """Of images of class 0, with replacement, as long as it gets better."""
    members = [np.array(rows) for rows in said]
    assert select(members, np.zeros(len(said[0]), np.int64), most) == chosen
