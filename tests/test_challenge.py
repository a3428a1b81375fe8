"""Champion and challenger: real nets on real digits, on either database."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, select

from tests.conftest import Terminal, connect, running, wait_until
from tests.digits import images_and_labels
from tests.house import claim_job
from tuner.data.installation import install
from tuner.executors.local import LocalExecutor
from tuner.executors.protocol import DataSlice
from tuner.settings import Settings
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.schedule import ScheduleSpec
from tuner.specs.study import StudySpec
from tuner.stages.challenge import challenge, weigh
from tuner.stages.job import RunningJob
from tuner.stages.leased_job import JobInterrupted
from tuner.stages.retraining import Contender, Plan, retrain, stage_seeds
from tuner.store import champions, events, firing, jobs, model_registry, posting, runs, schedules
from tuner.store.champions import Champion, Contest, Decision, Reign, Ruling
from tuner.store.clock import now
from tuner.store.database import reading, writing
from tuner.store.jobs import JobState, Lease
from tuner.store.model_files import ModelConfig, read_weights, write_model
from tuner.store.model_registry import Model, ModelMetrics
from tuner.store.retention import keep_house
from tuner.store.runs import Run, RunState
from tuner.store.tables import champions as champion_rows
from tuner.store.tables import deliveries
from tuner.store.tables import models as model_rows

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

SEEDS = 3
"""A schedule's default."""

GOOD = Hyperparameters(depth=1, width=32, batch_size=64)
AS_GOOD = GOOD.model_copy(update={"weight_decay": 2e-6})
CRIPPLED = GOOD.model_copy(update={"learning_rate": 1e-5})
EXPLODING = Hyperparameters(
    depth=2, width=32, activation="maxout", optimizer="sgd", learning_rate=100.0, normalisation="none", batch_size=64
)


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Where the nets matter and not the database."""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 digits to train on and 600 to validate, the same under two names, and 600 fewer; their test files are gone."""
    root = tmp_path_factory.mktemp("datasets")
    images, labels = images_and_labels()
    for name, count in (("digits", 3600), ("others", 3000)):
        arrays = {"train_images": images[:count], "train_labels": labels[:count]}
        install(name, root, {**arrays, "test_images": images[-100:], "test_labels": labels[-100:]})
        for part in ("images", "labels"):
            (root / name / f"test_{part}.npy").unlink()
    return root


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    executor = LocalExecutor(2)
    yield executor
    executor.close()


@dataclass
class House:
    """A schedule, and the nights on which it has run."""

    engine: Engine
    executor: LocalExecutor
    datasets: Path
    settings: Settings
    nights: int = 0

    def create(self, name: str = "nightly", dataset: str = "digits") -> None:
        subset = {"train": 1000, "validation": 500}
        study = {"name": f"{name}-{{date}}", "dataset": dataset, "subset": subset, "webhook": "http://127.0.0.1:9/"}
        spec = ScheduleSpec.model_validate({"name": name, "cron": "0 * * * *", "study": study})
        with writing(self.engine) as connection:
            schedules.create_schedule(connection, spec, NOON)

    def fire(self, name: str = "nightly") -> RunningJob:
        """The next night's job, claimed and in a runner's hands."""
        self.nights += 1
        with writing(self.engine) as connection:
            schedule = schedules.find_schedule(connection, name, lock=True)
            run = firing.fire_now(connection, schedule, NOON + timedelta(days=self.nights), self.settings)
        assert run.job_id is not None, run.reason
        return self.claim()

    def claim(self) -> RunningJob:
        return claim_job(self.engine, self.executor, self.datasets, self.settings.models_dir)

    def promote(self, job: RunningJob, point: Hyperparameters, epochs: int = 2) -> str:
        """The id of the model that the job has brought; its weights play no part."""
        model_id = f"model-{job.lease.job_id}"
        parameters = point.parameter_count(job.dataset.inputs, job.dataset.classes)
        metrics = ModelMetrics(validation_accuracy=0.9)
        model = Model(
            id=model_id,
            study_id=job.study_id,
            job_id=job.lease.job_id,
            study=job.name,
            kind="single",
            contender="trial-0",
            hyperparameters=point,
            parameters=parameters,
            metrics=metrics,
            sha256="0" * 64,
            promoted=True,
            created_at=now(),
        )
        config = ModelConfig(
            study=job.name,
            kind="single",
            hyperparameters=point,
            dataset=job.dataset.name,
            dataset_checksum=job.dataset.checksum,
            image_shape=job.dataset.image_shape,
            classes=job.dataset.classes,
            parameters=parameters,
            seed=0,
            epochs=epochs,
            best_epoch=1,
        )
        write_model(job.models_dir / model_id, b"", config, metrics)
        with writing(self.engine) as connection:
            model_registry.add_model(connection, model)
        return model_id

    def night(self, point: Hyperparameters, epochs: int = 2, name: str = "nightly") -> str:
        """A whole night whose winner is `point`; answers the winner's model."""
        job = self.fire(name)
        model_id = self.promote(job, point, epochs)
        challenge(job)
        self.end(job)
        return model_id

    def end(self, job: RunningJob, state: JobState = JobState.SUCCEEDED) -> None:
        job.write(lambda connection: jobs.end_job(connection, job.lease, state))

    def decisions(self, name: str = "nightly") -> list[Decision]:
        """The oldest first."""
        with reading(self.engine) as connection:
            schedule = schedules.find_schedule(connection, name)
            return champions.list_decisions(connection, schedule.id, None, 100)[::-1]

    def last(self, name: str = "nightly") -> tuple[Ruling, str, Contest]:
        """The verdict on the last night, the model that stands, and why."""
        decision = self.decisions(name)[-1]
        return decision.verdict, decision.model_id, decision.contest

    def told(self) -> list[Any]:
        """What the webhooks say of champions, in order."""
        with reading(self.engine) as connection:
            bodies = connection.execute(select(deliveries.c.body).order_by(deliveries.c.created_at)).scalars()
            messages = [json.loads(body) for body in bodies]
        return [message["data"]["champion"] for message in messages if message["type"] == "champion.changed"]

    def trained(self, lease: Lease) -> list[Run]:
        with reading(self.engine) as connection:
            return runs.load_runs(connection, lease.study_id, lease.job_id, "challenge")

    def champion(self, name: str = "nightly") -> Champion | None:
        with reading(self.engine) as connection:
            schedule = schedules.find_schedule(connection, name)
            return champions.standing(connection, [schedule.id]).get(schedule.id)


@pytest.fixture
def house(engine: Engine, executor: LocalExecutor, datasets: Path, tmp_path: Path) -> House:
    secret = tmp_path / "webhook-secret.txt"
    secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    settings = Settings(data_dir=tmp_path / "data", webhook_hosts="127.0.0.1", webhook_secret_file=secret)
    settings.datasets_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.datasets_dir.symlink_to(datasets)
    house = House(engine, executor, datasets, settings)
    house.create()
    return house


@ON_SQLITE
def test_a_better_challenger_replaces_the_champion(house: House) -> None:
    """A champion that learns nothing is beaten with both nets' seeds, images and accuracies on record. The test set's files are
    not there at all, so neither this process nor a worker has opened them."""
    first = house.night(CRIPPLED)
    assert house.last()[:2] == (Ruling.FIRST, first)
    second = house.night(GOOD)
    told = [(message["schedule"], message["model"], message["previous"]) for message in house.told()]
    assert told == [("nightly", first, None), ("nightly", second, first)]
    verdict, standing, contest = house.last()
    assert (verdict, standing, contest.champion, contest.challenger) == (Ruling.REPLACED, second, first, second)
    assert contest.images == 600
    assert contest.challenger_accuracy is not None
    assert contest.champion_accuracy is not None
    assert contest.difference is not None
    assert contest.difference == pytest.approx(contest.challenger_accuracy - contest.champion_accuracy, abs=1e-12)
    assert contest.difference > 0.3
    assert contest.interval is not None
    assert contest.p_value is not None
    assert 0 < contest.interval[0] < contest.difference < contest.interval[1]
    assert 0 < contest.p_value < 0.01
    assert "better beyond chance: +" in contest.reason


@ON_SQLITE
def test_an_equal_challenger_leaves_the_champion(house: House) -> None:
    """A winner that is as good as the champion does not replace it, and the interval holds 0. Both were trained with the same
    seeds, which neither promotion nor rung nor another night has drawn."""
    first = house.night(GOOD)
    job = house.fire()
    house.promote(job, AS_GOOD)
    challenge(job)
    verdict, standing, contest = house.last()
    assert (verdict, standing) == (Ruling.KEPT, first)
    assert contest.interval is not None
    assert contest.interval[0] < 0 < contest.interval[1]
    assert "not better beyond chance" in contest.reason
    trained = house.trained(job.lease)
    seeds = {name: [run.seed for run in trained if run.contender == name] for name in ("champion", "challenger")}
    assert seeds["champion"] == seeds["challenger"] == list(contest.seeds)
    assert len(set(contest.seeds)) == SEEDS
    others = {*stage_seeds(0, "baseline", 10), *stage_seeds(0, "rung", 10), *stage_seeds(0, "promotion", 10)}
    assert not others & set(contest.seeds)
    assert {run.state for run in trained} == {RunState.COMPLETE}
    house.end(job)
    house.night(AS_GOOD)
    assert not set(house.last()[2].seeds) & set(contest.seeds)


@pytest.mark.parametrize(("more", "verdict"), [(-30, "kept"), (0, "kept"), (3, "kept"), (60, "replaced")])
def test_a_challenger_must_be_better_beyond_chance(more: int, verdict: str) -> None:
    """Nets that have others of 1,000 images right than the champion's 900 do not replace it with 3 more; with 60 they do."""
    theirs, ours = np.zeros((3, 1000), bool), np.zeros((3, 1000), bool)
    for seed in range(3):
        theirs[seed, 10 * seed : 10 * seed + 900] = True
        ours[seed, 10 * seed + 20 : 10 * seed + 920 + more] = True
    found, contest = weigh(Contest(reason="", challenger="a", champion="b"), (1, 2, 3), ours, theirs)
    assert found == verdict
    assert contest.difference == pytest.approx(more / 1000)
    assert contest.champion_accuracy == pytest.approx(0.9)
    assert ("not better" in contest.reason) is (verdict == "kept")


@ON_SQLITE
def test_the_champions_own_configuration_is_no_challenger(house: House) -> None:
    """It is kept without training a net; with more epochs the same hyperparameters are another configuration."""
    first = house.night(CRIPPLED)
    house.night(CRIPPLED)
    verdict, standing, contest = house.last()
    assert (verdict, standing, contest.seeds) == (Ruling.KEPT, first, ())
    assert contest.reason == "the winner has the champion's own configuration"
    house.night(CRIPPLED, epochs=3)
    assert len(house.last()[2].seeds) == SEEDS


@ON_SQLITE
def test_other_data_have_a_champion_of_their_own(house: House, tmp_path: Path) -> None:
    """A champion of other images cannot be compared: the winner is the first one for the new data, and it says so. So it is where
    the champion's files were removed."""
    house.night(GOOD)
    with writing(house.engine) as connection:
        schedule = schedules.find_schedule(connection, "nightly", lock=True)
        study = {**schedule.spec.study.model_dump(mode="json"), "dataset": "others"}
        spec = ScheduleSpec.model_validate({**schedule.spec.model_dump(mode="json"), "study": study})
        schedules.edit_schedule(connection, schedule, spec, NOON)
    second = house.night(CRIPPLED)
    assert house.last()[:2] == (Ruling.FIRST, second)
    assert house.last()[2].reason == "the champion was trained on other data"
    with writing(house.engine) as connection:
        connection.execute(model_rows.update().values(files_removed_at=now()))
    third = house.night(CRIPPLED)
    assert house.last()[:2] == (Ruling.FIRST, third)
    assert house.last()[2].reason == "the champion's files were removed"


@ON_SQLITE
def test_a_challenger_that_explodes_is_not_taken(house: House) -> None:
    """A configuration whose nets diverge with new seeds has lost, whatever its first net was worth."""
    first = house.night(CRIPPLED)
    house.night(EXPLODING)
    verdict, standing, contest = house.last()
    assert (verdict, standing) == (Ruling.KEPT, first)
    assert contest.reason == f"{SEEDS} of the challenger's {SEEDS} runs did not reach their end"
    assert contest.difference is None


@ON_SQLITE
def test_a_job_without_a_schedule_or_a_model_challenges_nobody(house: House) -> None:
    """Neither a study that somebody has posted nor a night that has promoted nothing changes the champion."""
    challenge(house.fire())
    with writing(house.engine) as connection:
        spec = StudySpec.model_validate({"name": "by-hand", "dataset": "digits", "subset": {"train": 1000}})
        posting.post_study(connection, spec, house.settings)
    job = house.claim()
    house.promote(job, GOOD)
    challenge(job)
    assert house.decisions() == []
    assert house.champion() is None


@ON_SQLITE
def test_a_restart_repeats_only_what_it_must(house: House) -> None:
    """A challenge that is interrupted keeps its finished runs and goes on to one decision; once more, it decides nothing."""
    house.night(CRIPPLED, epochs=6)
    job = house.fire()
    winner = house.promote(job, GOOD, epochs=6)

    def complete() -> list[Run]:
        return [run for run in house.trained(job.lease) if run.state == RunState.COMPLETE]

    interrupted: list[BaseException] = []

    def first_runner() -> None:
        try:
            challenge(job)
        except JobInterrupted as interruption:
            interrupted.append(interruption)
        job.stop_all()

    thread = threading.Thread(target=first_runner)
    thread.start()
    wait_until(lambda: len(complete()) >= 2 or not thread.is_alive(), "two runs are complete")
    job.ending.set()
    thread.join(20)
    assert job.progress.stage == "challenge"
    assert 12 <= job.progress.done <= job.progress.total == 36
    assert len(interrupted) == 1
    assert house.last()[0] is Ruling.FIRST
    before = complete()
    assert 2 <= len(before) < 2 * SEEDS

    job.ending.clear()
    house.end(job, JobState.QUEUED)
    again = house.claim()
    challenge(again)
    assert house.last()[:2] == (Ruling.REPLACED, winner)
    after = {run.id: run for run in house.trained(again.lease)}
    assert [after[run.id].seconds for run in before] == [run.seconds for run in before]
    assert len(after) == 2 * SEEDS
    challenge(again)
    assert len(house.decisions()) == 2


@ON_SQLITE
def test_nets_whose_weights_were_removed_are_trained_again(house: House) -> None:
    """A job that is retried a month after it has failed trains anew what housekeeping has taken, to the same weights; a retry
    before that trains nothing."""
    job = house.fire()
    plan = Plan("promotion", DataSlice(job.dataset.folder, (0, 500), (500, 600)), 1, decay=True, keep_weights=True)

    def nets(job: RunningJob) -> list[tuple[float | None, bytes]]:
        trained = retrain(job, plan, [Contender("default", GOOD), Contender("trial-0", AS_GOOD)])
        return [(run.seconds, read_weights(job.models_dir / str(run.weights))) for run in trained]

    def retried_after(job: RunningJob, days: float) -> RunningJob:
        house.end(job, JobState.FAILED)
        for _ in keep_house(house.engine, house.settings, datetime.now(UTC) + timedelta(days=days)):
            pass
        with writing(house.engine) as connection:
            failed = jobs.find_job(connection, job.lease.job_id)
            assert failed is not None
            jobs.retry(connection, failed)
        return house.claim()

    first = nets(job)
    job = retried_after(job, 29)
    assert nets(job) == first
    job = retried_after(job, 31)
    assert not any(path.name.startswith("run-") for path in job.models_dir.iterdir())
    again = nets(job)
    assert [weights for _, weights in again] == [weights for _, weights in first]
    assert [seconds for seconds, _ in again] != [seconds for seconds, _ in first]


@ON_SQLITE
def test_the_time_limit_keeps_the_champion(house: House) -> None:
    """A job whose time is over before the comparison is done has not shown that its winner is better."""
    first = house.night(CRIPPLED)
    job = house.fire()
    house.promote(job, GOOD)
    budget = job.spec.budget.model_copy(update={"timeout_seconds": 1e-9})
    job.spec = job.spec.model_copy(update={"budget": budget})
    challenge(job)
    assert house.last()[:2] == (Ruling.KEPT, first)


def test_what_is_told_of_a_champion(house: House) -> None:
    """Its study, since when it stands and the last decision; a model keeps when it stood for which schedule, the log who won."""
    house.create("other")
    first = house.night(CRIPPLED)
    second = house.night(GOOD)
    house.night(GOOD)
    house.night(GOOD, name="other")
    begun, ended, kept = house.decisions()
    assert [decision.verdict for decision in (begun, ended, kept)] == ["first", "replaced", "kept"]
    assert house.champion() == Champion(second, ended.job_id, ended.study, ended.decided_at, kept)
    with reading(house.engine) as connection:
        reigns = champions.reigns(connection, [first, second, "unknown"])
        log = [event.data for event in events.of_job(connection, ended.job_id, 0, 1000) if event.kind == "champion"]
    assert reigns == {
        first: [Reign("nightly", begun.decided_at, ended.decided_at)],
        second: [Reign("nightly", ended.decided_at, None)],
    }
    assert log == [{"verdict": "replaced", "model": second, "reason": ended.contest.reason}]


def test_of_two_jobs_at_once_the_second_to_decide_has_lost(house: House) -> None:
    """A winner that was compared with a champion that stands no more does not replace its successor."""
    first, second = house.fire(), None
    house.end(first)
    second = house.fire()
    winners = [house.promote(job, GOOD) for job in (first, second)]
    with writing(house.engine) as connection:
        schedule_id = schedules.find_schedule(connection, "nightly").id
        for job, winner in zip((first, second), winners, strict=True):
            contest = Contest(reason="the schedule had no champion", challenger=winner, champion=None)
            champions.decide(connection, schedule_id, job.lease, Ruling.FIRST, contest)
    verdict, standing, contest = house.last()
    assert (verdict, standing) == (Ruling.KEPT, winners[0])
    assert contest.reason == f"while the challenge was under way, another job has made {winners[0]} the champion"


def test_a_schedule_that_is_deleted_takes_its_champions_along(house: House) -> None:
    """A challenge that outlives its schedule decides nothing and ends in peace."""
    house.night(CRIPPLED)
    job = house.fire()
    house.promote(job, GOOD)
    with writing(house.engine) as connection:
        schedule = schedules.find_schedule(connection, "nightly", lock=True)
        schedules.delete_schedule(connection, schedule)
        contest = Contest(reason="", challenger="a")
        assert champions.decide(connection, schedule.id, job.lease, Ruling.FIRST, contest) is None
    challenge(job)
    with reading(house.engine) as connection:
        assert connection.execute(select(champion_rows)).all() == []


def test_a_schedules_champion_by_rest_and_in_the_terminal(
    settings: Settings, datasets: Path, terminal: Terminal
) -> None:
    """Whole jobs in a real runner: the first winner is the champion, a truly better one takes its place, and the schedule, the
    models, the log and the terminal tell of it. A night that finds the champion's configuration again trains nothing for it."""
    images, labels = images_and_labels()
    arrays = {"train_images": images[:1200], "train_labels": labels[:1200]}
    install("few", settings.datasets_dir, {**arrays, "test_images": images[-100:], "test_labels": labels[-100:]})
    space: dict[str, Any] = {
        "depth": 1,
        "width": 32,
        "activation": "relu",
        "loss": "cross_entropy",
        "optimizer": "adam",
    }
    space |= {
        "dropout": 0,
        "shift_pixels": 0,
        "rotate_degrees": 0,
        "zoom": 0,
        "batch_norm": False,
        "batch_size": 32,
        "weight_decay": 0,
        "learning_rate": 1e-5,
    }
    study: dict[str, Any] = {
        "name": "n-{date}",
        "dataset": "few",
        "search_space": space,
        "subset": {"train": 200, "validation": 100, "epochs": 1},
        "budget": {"n_trials": 1},
        "promotion": {"top_k": 1, "max_seeds": 1, "epochs": 1},
    }
    with connect(settings) as api, running(settings):

        def night() -> dict[str, Any]:
            job = api.post("/v1/schedules/nightly/run").json()["job"]
            wait_until(lambda: api.get(f"/v1/jobs/{job}").json()["state"] in ("succeeded", "failed"), f"job {job} ends")
            assert api.get(f"/v1/jobs/{job}").json()["state"] == "succeeded", api.get(f"/v1/jobs/{job}").json()["error"]
            champion: dict[str, Any] = api.get("/v1/schedules/nightly").json()["champion"]
            return champion

        schedule = {"name": "nightly", "cron": "0 0 1 1 *", "challenge_seeds": 4, "study": study}
        assert api.post("/v1/schedules", json=schedule).json()["champion"] is None
        first = night()
        assert (first["comparison"]["verdict"], first["comparison"]["model"]) == ("first", first["model"])
        longer = {"search_space": {**space, "learning_rate": 3e-3}, "promotion": {"top_k": 1, "epochs": 6}}
        assert api.patch("/v1/schedules/nightly", json={"study": {**study, **longer}}).status_code == 200
        second, third = night(), night()
        assert second["comparison"]["verdict"] == "replaced"
        assert second["comparison"]["difference"] > 0.2
        assert len(second["comparison"]["seeds"]) == 4
        assert third["comparison"]["verdict"] == "kept"
        assert (third["model"], third["since"], third["study"]) == (second["model"], second["since"], second["study"])
        page = api.get("/v1/schedules/nightly/champions?limit=2").json()
        assert [item["verdict"] for item in page["items"]] == ["kept", "replaced"]
        assert page["items"][0] == third["comparison"]
        rest = api.get("/v1/schedules/nightly/champions", params={"cursor": page["next_cursor"]}).json()
        assert (rest["items"], rest["next_cursor"]) == ([first["comparison"]], None)
        begun = {"schedule": "nightly", "since": first["since"], "until": second["since"]}
        assert api.get(f"/v1/models/{first['model']}").json()["champion_of"] == [begun]
        reigning = {"schedule": "nightly", "since": second["since"], "until": None}
        assert api.get(f"/v1/models/{second['model']}").json()["champion_of"] == [reigning]
        assert [] in [model["champion_of"] for model in api.get("/v1/models").json()["items"]]
        log = api.get(f"/v1/jobs/{second['comparison']['job']}/log?limit=500", headers={"Accept": "text/plain"}).text
        assert f"champion replaced: {second['model']} (the challenger is better beyond chance: +" in log
        assert api.get("/v1/schedules/other/champions").status_code == 404
    for command, told in (
        ("champions", "the challenger is better beyond chance"),
        ("show", f"{second['model']}, since"),
    ):
        shown = terminal("schedule", command, "nightly", TUNER_DATA_DIR=str(settings.data_dir))
        assert (shown.returncode, told in shown.stdout) == (0, True)
