"""From the search to the verdict: real nets on a few thousand real digits, on a real SQLite file."""

import hashlib
import threading
from collections.abc import Iterator

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FixedTrial, create_trial
from sqlalchemy import update

from tests.conftest import connect, wait_until
from tests.digits import TEST_IMAGES
from tests.house import House, open_house
from tests.test_training import OVERSHOOTING
from tuner.executors.protocol import DataSlice
from tuner.runner.coordinator import coordinate
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import SearchSpace
from tuner.stages.allowance import Allowance
from tuner.stages.finalists import train_finalists
from tuner.stages.job import RunningJob
from tuner.stages.progress import Ahead, Meter, searching
from tuner.stages.promotion import promote
from tuner.stages.retraining import Contender, Plan, retrain, stage_seeds
from tuner.stages.rung import Candidate, Extent, climb, dear_last
from tuner.stages.search import search
from tuner.stages.verdict import judge
from tuner.store import curves, jobs, ledger, model_registry, tables, trials
from tuner.store.database import reading, writing
from tuner.store.jobs import JobState
from tuner.store.ledger import Opener
from tuner.store.model_files import read_weights
from tuner.store.runs import Run, RunState, end_run, start_run


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("promotion")) as house:
        yield house


@pytest.fixture(scope="module")
def whole(house: House) -> RunningJob:
    """A study's job that has come to its end."""
    job = house.post("whole")
    coordinate(job)
    row = house.row(job)
    assert (row.state, row.stop_reason, row.error) == (JobState.SUCCEEDED, "n_trials", None)
    return job


def test_a_verdict_tells_what_was_trained(house: House, whole: RunningJob) -> None:
    """Subset, rung, race and their cost as the runs have it; all epochs that were trained count as done, and none is left."""
    verdict = house.verdict(whole)
    rung, race = house.trained(whole, "rung"), house.trained(whole, "promotion")
    assert verdict.tau.configurations == len(rung)
    assert verdict.tau.interval is not None
    assert verdict.optimism is not None
    assert (verdict.optimism.seeds, verdict.optimism.images) == (3, 400)
    assert verdict.optimism.value == pytest.approx(verdict.optimism.search_value - verdict.optimism.fresh_value)
    fresh = [run.id for run in house.trained(whole, "optimism")]
    last = [told[-1].validation_accuracy for told in whole.read(lambda c: curves.load_many(c, "run", fresh)).values()]
    assert verdict.optimism.fresh_value == pytest.approx(sum(last) / 3)
    assert {entrant.contender for entrant in verdict.race.entrants} == {run.contender for run in race}
    assert sum(entrant.seeds for entrant in verdict.race.entrants) == len(race)
    for entrant in verdict.race.entrants:
        accuracies = [run.validation_accuracy or 0.0 for run in race if run.contender == entrant.contender]
        assert entrant.accuracy == pytest.approx(sum(accuracies) / len(accuracies))
    assert verdict.race.entrants[0].contender == verdict.race.winner == verdict.delivered.contender
    assert (verdict.race.looks, verdict.race.stopped_by) == (1, "max_seeds")
    assert [cost.stage for cost in verdict.costs] == ["rung", "optimism", "local_search", "promotion", "verdict"]
    row = house.row(whole)
    epochs = sum(cost.runs for cost in verdict.costs) * 2
    assert row.progress_done == row.progress_total == 8 + epochs


def test_the_gain_comes_from_fresh_seeds_on_the_test_set(house: House, whole: RunningJob) -> None:
    """No seed of the race is among those of the verdict; the gain is the difference of what the ledger's reading has right."""
    verdict, [opening] = house.verdict(whole), house.openings(whole)
    fresh = house.trained(whole, "verdict")
    assert {run.seed for run in fresh}.isdisjoint(run.seed for run in house.trained(whole, "promotion"))
    assert verdict.gain is not None
    assert (verdict.gain.seeds, verdict.gain.fresh, verdict.gain.basis) == (2, True, "images and seeds")
    assert verdict.opening is not None
    assert (verdict.opening.number, verdict.opening.forced, verdict.opening.models) == (1, False, len(opening.models))
    assert opening.reading is not None
    share: dict[str, list[float]] = {}
    for run in fresh:
        sha256 = hashlib.sha256(read_weights(whole.models_dir / str(run.weights))).hexdigest()
        share.setdefault(run.contender, []).append(opening.reading[sha256]["correct"] / TEST_IMAGES)
    means = {name: sum(found) / len(found) for name, found in share.items()}
    assert verdict.gain.winner_accuracy == pytest.approx(means[verdict.race.winner])
    assert verdict.gain.default_accuracy == pytest.approx(means["default"])


def test_the_delivered_model_is_the_median_seed(house: House, whole: RunningJob) -> None:
    """Of the winner's fresh runs the median by validation accuracy, the lower of two, is the model that is promoted."""
    verdict = house.verdict(whole)
    fresh = [run for run in house.trained(whole, "verdict") if run.contender == verdict.race.winner]
    lower = min(fresh, key=lambda run: run.validation_accuracy or 0.0)
    assert verdict.delivered.seed == lower.seed
    with reading(house.engine) as connection:
        model = model_registry.promoted_model(connection, whole.study_id)
    assert model is not None
    assert (model.id, model.contender) == (verdict.delivered.model, verdict.race.winner)
    assert model.sha256 == hashlib.sha256(read_weights(whole.models_dir / str(lower.weights))).hexdigest()


def test_an_interrupted_promotion_comes_to_the_same_verdict(house: House, whole: RunningJob) -> None:
    """A job that its runner gives back in the middle of the race, and again in the verdict, finds what one left alone finds."""
    job = house.post("disturbed")
    for stage in ("promotion", "verdict"):
        thread = threading.Thread(target=coordinate, args=(job,))
        thread.start()
        wait_until(lambda job=job, stage=stage: bool(house.trained(job, stage)), f"{stage} has begun")  # type: ignore[misc]
        job.ending.set()
        thread.join(30)
        assert house.row(job).state == JobState.QUEUED
        job = house.claim()
    coordinate(job)
    found, expected = house.verdict(job), house.verdict(whole)
    same = ("tau", "optimism", "race", "gain", "accuracy")
    assert {name: getattr(found, name) for name in same} == {name: getattr(expected, name) for name in same}
    assert found.delivered.seed == expected.delivered.seed
    assert len(house.openings(job)) == 1


def test_who_has_begun_to_race_stays_as_it_is(house: House) -> None:
    """Whatever a longer search and another local search would make of a trial, the net that has begun to race is the one that is
    trained with every seed, told and delivered."""
    job = house.post("begun", top_k=1)
    search(job)
    [best, *_] = job.read(lambda connection: trials.best_trials(connection, job.study_id, minimize=False, limit=None))
    point, [seed] = job.spec.search_space.restore(best.params), stage_seeds(job.spec.seed, "promotion")
    raced = point.model_copy(update={"dropout": 0.05})
    with writing(house.engine) as connection:
        start_run(connection, job.lease, "promotion", f"trial-{best.number}", seed, raced, job.parameters(raced))
    coordinate(job)
    runs_of = [run for run in house.trained(job, "promotion") if run.contender == f"trial-{best.number}"]
    assert len(runs_of) == 2
    assert {run.hyperparameters for run in runs_of} == {raced}
    [told] = [one for one in house.verdict(job).race.entrants if one.contender == f"trial-{best.number}"]
    assert told.hyperparameters == raced


def leave_running(house: House, run: Run) -> None:
    """As a time limit leaves it."""
    with writing(house.engine) as connection:
        row = update(tables.runs).where(tables.runs.c.id == run.id)
        connection.execute(row.values(state=RunState.RUNNING, weights=None))


@pytest.mark.parametrize(
    ("name", "seeds", "fresh", "cut"),
    [
        ("opened", 2, True, ""),
        ("opened-with-one-cut", 1, True, "verdict"),
        ("opened-in-a-hurry", 1, False, ""),
        ("opened-without-the-best", 1, False, "race"),
    ],
)
def test_after_the_opening_no_net_joins_its_list(name: str, seeds: int, fresh: bool, cut: str, house: House) -> None:
    """A job that is killed between the opening of the test set and its reading, and could afford more when it goes on, comes to
    its verdict on the list that was opened: of two fresh seeds, of one where the time limit has cut a second one's net, or of the
    race's one where time was too short for any, also where it has cut the net that would have won."""
    job = house.post(name, max_seeds=3, max_cost=0.001)
    search(job)
    assert job.promotion is not None
    promoted = promote(job, job.promotion)
    if cut == "verdict":
        _, default = train_finalists(job, job.promotion, promoted).finalists
        leave_running(house, default.nets[1].run)
    if cut == "race":
        leave_running(house, promoted.raced.runs[promoted.raced.winner.name][0])
    if seeds == 1:
        house.change(job, "budget", timeout_seconds=1e-9)
    if cut == "race":
        without = promote(job, job.promotion)
        assert without.raced.winner != promoted.raced.winner
        promoted = without
    finals = train_finalists(job, job.promotion, promoted)
    assert (finals.fresh, len(finals.winner.nets)) == (fresh, seeds)
    hashes = [net.sha256 for finalist in finals.finalists for net in finalist.nets]
    opener = Opener(job.study_id, job.name, job.lease.job_id, job.dataset.name, job.dataset.checksum)
    with writing(house.engine) as connection:
        ledger.record_opening(connection, opener, hashes)
        jobs.give_back(connection, job.lease)
    again = house.claim()
    house.change(again, "budget", timeout_seconds=None)
    house.change(again, "promotion", max_cost=None)
    coordinate(again)
    assert (house.row(again).state, house.row(again).stop_reason) == (JobState.SUCCEEDED, "n_trials")
    verdict = house.verdict(again)
    assert verdict.gain is not None
    assert (verdict.gain.seeds, verdict.race.stopped_by) == (seeds, "cost")
    [opening] = house.openings(again)
    assert set(opening.models) == set(hashes)


def test_a_verdict_stands(house: House) -> None:
    """A job that goes on after its verdict ends for its reason, and trains nothing anew, though its runs' weights are gone by
    then, as they are in the months before a retry."""
    job = house.post("judged", top_k=1, max_seeds=1)
    search(job)
    assert job.promotion is not None
    promoted = promote(job, job.promotion)
    verdict = judge(job, promoted, train_finalists(job, job.promotion, promoted))
    with writing(house.engine) as connection:
        connection.execute(update(tables.runs).where(tables.runs.c.study_id == job.study_id).values(weights=None))
        jobs.give_back(connection, job.lease)
    again = house.claim()
    coordinate(again)
    assert house.row(again).stop_reason == "n_trials"
    assert house.verdict(again) == verdict
    assert {run.weights for run in house.trained(again, "promotion")} == {None}


def test_a_retrained_net_is_the_one_of_its_last_epoch(house: House) -> None:
    """Of one that gets worse, too; its accuracy is that of the last epoch."""
    job = house.post("worse")
    data = DataSlice(job.dataset.folder, (0, 300), (3500, 3600))
    plan = Plan("rung", data, epochs=12, decay=False, keep_weights=False, seeds=(1,))
    [run] = retrain(job, plan, [Contender("worse", OVERSHOOTING)])
    with reading(house.engine) as connection:
        accuracies = [record.validation_accuracy for record in curves.load_records(connection, "run", run.id)]
    assert accuracies[-1] < max(accuracies), "the example must get worse for the claim to be tested"
    assert (run.best_epoch, run.validation_accuracy) == (12, accuracies[-1])


def test_the_time_left_is_at_most_what_the_limit_leaves(house: House) -> None:
    """In the search and after it: what has no time is left out."""
    job = house.post("estimated")

    def told() -> list[float]:
        before = searching(job, finished=2, epochs=4, seconds=100.0).eta_seconds
        show = Meter(job, done=0).measure("rung", 10, 100, Ahead(10, 10**12))
        show(0)
        show(1)
        return [before or 0.0, job.progress.eta_seconds or 0.0]

    assert min(told()) > 30
    job.spec = job.spec.model_copy(update={"budget": job.spec.budget.model_copy(update={"timeout_seconds": 30.0})})
    assert all(20 < seconds <= 30 for seconds in told())


def test_another_programs_trial_is_not_promoted(house: House) -> None:
    """Another program writes a trial of its own into the study, of other parameters and better than all: that changes nothing."""
    job = house.post("foreign", top_k=1, max_seeds=1)
    search(job)
    foreign = optuna.load_study(study_name=job.name, storage=house.settings.database_url)
    foreign.add_trial(create_trial(params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)}, value=1.0))
    coordinate(job)
    verdict = house.verdict(job)
    assert verdict.optimism is not None
    assert verdict.optimism.contender != "trial-8"
    assert {run.contender for run in house.trained(job, "rung")} <= {f"trial-{number}" for number in range(8)}


def test_a_promotion_under_way_hides_no_verdict(house: House, whole: RunningJob) -> None:
    """While a further one has trained nets, however good, the best is what the last verdict was about, with its own figures."""
    further = house.queue(whole.study_id, epochs=1)
    [seed] = stage_seeds(further.spec.seed, "promotion")
    point = Hyperparameters(depth=1, width=20)
    with writing(house.engine) as connection:
        run_id = start_run(connection, further.lease, "promotion", "trial-1", seed, point, 1)
        end_run(connection, run_id, RunState.COMPLETE, validation_accuracy=1.0, seconds=1.0, cpu_seconds=1.0)
    with connect(house.settings) as api:
        report = api.get("/v1/studies/whole/report").raise_for_status().json()
        best = api.get("/v1/studies/whole/best").raise_for_status().json()["items"][0]
        model = api.get(f"/v1/models/{house.verdict(whole).delivered.model}").raise_for_status().json()
    for told in (report["best"], best):
        assert (told["model"], told["hyperparameters"]) == (model["id"], model["hyperparameters"])
        assert told["test_accuracy"] == model["metrics"]["test_accuracy"]
    assert report["best"]["test_interval"] == model["metrics"]["test_interval"]
    with writing(house.engine) as connection:
        jobs.end_job(connection, further.lease, JobState.FAILED, "error", "")


def test_another_opening_takes_force(house: House, whole: RunningJob) -> None:
    """The same models again are the same opening; others leave the test set closed, unless they force it, which is shown."""
    again = house.queue(whole.study_id)
    coordinate(again)
    assert (house.row(again).stop_reason, len(house.openings(whole))) == ("promoted", 1)
    others = house.queue(whole.study_id, epochs=1)
    coordinate(others)
    assert (house.row(others).stop_reason, house.verdict(others).gain) == ("test_set_sealed", None)
    assert len(house.openings(whole)) == 1
    forcing = house.queue(whole.study_id, epochs=1, force_test=True)
    coordinate(forcing)
    assert house.row(forcing).stop_reason == "promoted"
    opening = house.verdict(forcing).opening
    assert opening is not None
    assert opening.forced
    assert [told.study for told in opening.forced_openings] == ["whole"]
    assert [found.forced for found in house.openings(whole)] == [False, True]


def test_a_costly_promotion_takes_fewer_seeds(house: House) -> None:
    """Where `max_cost` is spent, the race ends after its first seed, and the verdict has two fresh ones all the same."""
    job = house.post("costly", max_seeds=3, max_cost=0.001)
    coordinate(job)
    verdict = house.verdict(job)
    assert (verdict.race.stopped_by, verdict.race.looks) == ("cost", 0)
    assert {entrant.seeds for entrant in verdict.race.entrants} == {1}
    assert verdict.gain is not None
    assert verdict.gain.seeds == 2


def test_where_the_subset_ranks_wrongly_more_climb(house: House) -> None:
    """Six configurations whose search values are the reverse of their merit: τ is surely below the gate, and six more climb."""
    job = house.post("misled")
    rates = [3e-5, 1e-4, 2e-4, 4e-4, 1e-3, 3e-3]
    points = [Hyperparameters(depth=1, width=32, batch_size=32, learning_rate=rate) for rate in [*rates, *rates[::-1]]]
    candidates = [Candidate(f"trial-{k}", point, 0.9 - k / 100, 1.0) for k, point in enumerate(points)]
    climbed = climb(job, candidates, Extent(6, 12), Meter(job, 0), Ahead(0, 0))
    assert (climbed.tau.verdict, climbed.tau.widened, climbed.tau.configurations) == ("subset too small", True, 6)
    assert len(house.trained(job, "rung")) == 12
    assert {candidate.hyperparameters.learning_rate for candidate in climbed.ranked[:2]} == {3e-3}
    right = climb(job, candidates[::-1], Extent(6, 12), Meter(job, 0), Ahead(0, 0))
    assert not right.tau.widened
    limited = climb(job, candidates, Extent(6, 6), Meter(job, 0), Ahead(0, 0))
    assert (limited.tau.verdict, limited.tau.widened) == ("subset too small", False)


def test_a_dear_net_gives_way(house: House) -> None:
    """One that has over twice the parameters of one that is no worse by more than 0.1 points comes after those that have not,
    unless it is no wider than what is cheap enough: the 48 units of trial 1."""
    job = house.post("dear")
    found = {"best": (200, 0.95), "good": (70, 0.9485), "as good": (220, 0.9482), "small": (20, 0.94), "wide": (47, 0.93),
             "wider": (59, 0.92)}  # fmt: skip
    ranked = [Candidate(n, Hyperparameters(depth=1, width=w), value, 1.0) for n, (w, value) in found.items()]
    order = [candidate.name for candidate in dear_last(job, ranked)]
    assert order == ["best", "good", "small", "wide", "as good", "wider"]


def test_a_dear_net_does_not_climb(house: House) -> None:
    """Where there are others: the rung takes four of five, without the search's best, which is dear beside the next one."""
    job = house.post("not-climbing", top_k=1, max_seeds=1, epochs=1)
    wider = {"width": {"low": 8, "high": 64}}
    space = SearchSpace.model_validate({**job.spec.search_space.model_dump(), **wider})
    with writing(house.engine) as connection:
        values = {64: 0.9, 8: 0.8995, 9: 0.88, 10: 0.87, 11: 0.86}
        for number, (width, value) in enumerate(values.items()):
            params = space.params(Hyperparameters(depth=1, width=width, weight_decay=1e-5, batch_size=32))
            assert params is not None
            fixed = FixedTrial(params)
            space.suggest(fixed)
            kinds, took = fixed.distributions, {"seconds": 0.1}
            trial = create_trial(params=params, distributions=kinds, value=value, user_attrs=took)
            trial.number = number
            trials.finish_trial(connection, trials.start_trial(connection, job.study_id, trial), trial)
    assert job.promotion is not None
    promote(job, job.promotion)
    assert {run.hyperparameters.width for run in house.trained(job, "rung")} == {8, 9, 10, 11}


def test_a_time_limit_takes_as_many_as_fit() -> None:
    """Batches run one after the other, each at least as long as its longest run; the cost counts all seconds."""
    left = Allowance(training_seconds=10.0, seconds=4.0, slots=2)
    assert left.lacks([2.0, 2.0], [2.0]) is None
    assert left.lacks([2.0, 2.0], [2.5]) == "time"
    assert left.lacks([4.0, 4.0, 4.0]) == "cost"
    assert left.in_time([4.0, 4.0])
    assert not left.in_time([4.0, 4.0, 4.0])
    assert Allowance(None, None, 1).lacks([1e9]) is None


def test_a_single_seed_tells_of_images_alone(house: House) -> None:
    """With `max_seeds: 1` the gain has an interval, and says that seeds are not in it."""
    job = house.post("single", max_seeds=1)
    coordinate(job)
    gain = house.verdict(job).gain
    assert gain is not None
    assert (gain.seeds, gain.basis) == (1, "images")
    assert gain.over_default == 0.0 or "not of other seeds" in gain.words


def test_without_time_for_fresh_seeds_the_race_is_read(house: House) -> None:
    """A job that runs out of time after the race is judged by the race's own nets, and says that these chose the winner."""
    job = house.post("hurried", promotes=False)
    coordinate(job)
    again = house.queue(job.study_id, top_k=2, max_seeds=2, epochs=2)
    assert again.promotion is not None
    promotion = again.promotion.model_copy(update={"max_cost": None})
    promoted = promote(again, promotion)
    budget = again.spec.budget.model_copy(update={"timeout_seconds": 1e-9})
    again.spec = again.spec.model_copy(update={"budget": budget})
    assert judge(again, promoted, train_finalists(again, promotion, promoted)).opening is not None
    gain = house.verdict(again).gain
    assert gain is not None
    assert (gain.fresh, gain.seeds) == (False, 2)
    assert all(run.state == RunState.COMPLETE for run in house.trained(again, "promotion"))
    assert house.trained(again, "verdict") == []
