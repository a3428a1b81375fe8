"""More than one job on a study, and jobs that are retried: in the store, through the app, and at work."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from tests.conftest import connect, running, wait_until
from tests.digits import install_digits
from tests.searching import Service, kill_while_it_trains
from tests.test_jobs import claim, job_of, owned, post
from tuner.errors import Conflict, InvalidInput
from tuner.settings import Settings
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.job import PromoteWork, SearchWork
from tuner.store import further_jobs, jobs, studies, trials
from tuner.store.database import reading, writing
from tuner.store.jobs import JobState, Lease

POST = "/v1/studies"


def queue(engine: Engine, study_id: int, work: SearchWork | PromoteWork) -> int:
    with writing(engine) as connection:
        return further_jobs.queue_job(connection, study_id, work)


def end(engine: Engine, lease: Lease, state: JobState) -> None:
    with owned(engine, lease) as connection:
        jobs.end_job(connection, lease, state)


def test_a_studys_jobs_run_one_after_the_other(engine: Engine) -> None:
    """A further job is refused while one is unfinished, or waits for it with `queue`, whatever its priority; another study's
    job does not wait."""
    first = post(engine)
    study_id = job_of(engine, first).study_id
    with pytest.raises(Conflict, match=f"job {first} of 'a' is queued"):
        queue(engine, study_id, SearchWork(n_trials=100))
    second = queue(engine, study_id, SearchWork(n_trials=100, queue=True, priority=100))
    assert job_of(engine, second).after_job_id == first
    other = post(engine, "b")
    lease = claim(engine)
    assert (lease.job_id, claim(engine).job_id) == (first, other)
    assert jobs.claim(engine, "runner", []) is None
    end(engine, lease, JobState.SUCCEEDED)
    assert claim(engine).job_id == second


def test_a_further_search_needs_a_greater_total(engine: Engine) -> None:
    """n_trials must exceed the trials that are there, and those that the unfinished job goes on to; the error has the figures."""
    study_id = job_of(engine, post(engine)).study_id
    with pytest.raises(InvalidInput, match="got 60 where it has 0 trials and goes on to 60"):
        queue(engine, study_id, SearchWork(n_trials=60, queue=True))
    end(engine, claim(engine), JobState.SUCCEEDED)
    with writing(engine) as connection:
        for number in range(3):
            trials.enqueue_trial(connection, study_id, number, {})
    with pytest.raises(InvalidInput, match="got 3 where it has 3 trials"):
        queue(engine, study_id, SearchWork(n_trials=3))
    assert job_of(engine, queue(engine, study_id, SearchWork(n_trials=4))).progress_total == 4


def test_nothing_is_promoted_where_nothing_is_complete(engine: Engine) -> None:
    study_id = job_of(engine, post(engine)).study_id
    end(engine, claim(engine), JobState.FAILED)
    with pytest.raises(Conflict, match="promotion needs a trial that is COMPLETE"):
        queue(engine, study_id, PromoteWork())


def test_cancelling_a_job_that_waits_leaves_the_trials_of_the_one_that_runs(engine: Engine) -> None:
    """The trials are the running job's; when the study is cancelled as a whole, every unfinished job is."""
    first = post(engine)
    study_id = job_of(engine, first).study_id
    second, third = (queue(engine, study_id, SearchWork(n_trials=n, queue=True)) for n in (100, 200))
    claim(engine)
    waiting = job_of(engine, second)
    with writing(engine) as connection:
        trials.enqueue_trial(connection, study_id, 0, {})
        jobs.cancel(connection, waiting)
        assert len(trials.unfinished_ids(connection, study_id)) == 1
        jobs.cancel_all(connection, study_id)
    assert [job_of(engine, job_id).state for job_id in (second, third)] == [JobState.CANCELLED] * 2
    assert (job_of(engine, first).state, job_of(engine, first).request) == (JobState.RUNNING, "cancel")


def test_only_a_studys_newest_job_is_retried(engine: Engine) -> None:
    """An earlier one would run beside it; the refusal names the newer job and changes nothing."""
    first = post(engine)
    end(engine, claim(engine), JobState.FAILED)
    second = queue(engine, job_of(engine, first).study_id, SearchWork(n_trials=100))
    failed = job_of(engine, first)
    with pytest.raises(Conflict, match=f"job {first} was followed by job {second}"), writing(engine) as connection:
        jobs.retry(connection, failed)
    assert job_of(engine, first).state == JobState.FAILED


def test_what_failed_before_a_retry_is_forgiven(engine: Engine) -> None:
    """When a job is begun, or begun again after a retry, it notes how many trials have failed; a takeover does not."""
    job_id = post(engine)
    lease = claim(engine)
    with writing(engine) as connection:
        trials.enqueue_trial(connection, lease.study_id, 0, {})
    assert job_of(engine, job_id).failed_before == 0
    end(engine, lease, JobState.FAILED)
    failed = job_of(engine, job_id)
    with writing(engine) as connection:
        jobs.retry(connection, failed)
    claim(engine)
    assert job_of(engine, job_id).failed_before == 1
    with writing(engine) as connection:
        trials.enqueue_trial(connection, lease.study_id, 1, {})
        trials.fail_trials(connection, trials.unfinished_ids(connection, lease.study_id), "error")
    claim(engine, [job_of(engine, job_id)])
    assert job_of(engine, job_id).failed_before == 1


def test_a_studys_state_is_that_of_its_first_unfinished_job(engine: Engine) -> None:
    """While a job waits behind one that runs, the study runs; when both have ended, it is as the last one left it."""
    study_id = job_of(engine, post(engine)).study_id
    queue(engine, study_id, SearchWork(n_trials=100, queue=True))

    def state() -> str:
        with reading(engine) as connection:
            study = studies.find_study_by_id(connection, study_id)
        assert study is not None
        assert study.job is not None
        return str(study.job.state)

    lease = claim(engine)
    seen = [state()]
    end(engine, lease, JobState.SUCCEEDED)
    seen.append(state())
    end(engine, claim(engine), JobState.CANCELLED)
    assert [*seen, state()] == ["running", "queued", "cancelled"]


def test_a_job_is_retried_and_put_first_by_rest(api: httpx.Client) -> None:
    """Retry answers 202 and queues what was cancelled, and 409 what waits already; priority changes while a job is unfinished."""
    job = api.post(POST, json={"name": "a", "priority": 5}).json()["job"]
    address = f"/v1/jobs/{job['id']}"
    assert (job["priority"], job["after"], job["work"], job["stalled"]) == (5, None, None, 0)
    assert api.post(f"{address}/retry").status_code == 409
    assert api.patch(address, json={"priority": -100}).json()["priority"] == -100
    assert api.patch(address, json={"priority": 101}).status_code == 422
    api.post(f"{address}/cancel")
    assert api.patch(address, json={"priority": 0}).status_code == 409
    retried = api.post(f"{address}/retry")
    assert (retried.status_code, retried.json()["state"], retried.json()["stop_reason"]) == (202, "queued", None)
    assert api.post("/v1/jobs/999/retry").status_code == 404


def test_a_jobs_log_is_paged_filtered_and_read_as_text(api: httpx.Client) -> None:
    """Every change of the job is an entry, in words too; pages hold each once; as text they are lines, with a link to more."""
    job = api.post(POST, json={"name": "a"}).json()["job"]["id"]
    for verb in ("pause", "resume", "cancel"):
        api.post(f"{POST}/a/{verb}")
    first = api.get(f"/v1/jobs/{job}/log?limit=3").json()
    second = api.get(f"/v1/jobs/{job}/log", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    entries = first["items"] + second["items"]
    assert [entry["data"]["state"] for entry in entries] == ["queued", "paused", "queued", "cancelled"]
    assert second["next_cursor"] is None
    text = api.get(f"/v1/jobs/{job}/log?limit=3", headers={"Accept": "text/plain"})
    assert text.text.splitlines() == [f"{entry['at']} {entry['text']}" for entry in entries[:3]]
    following = text.headers["Link"].removeprefix("<").partition(">")[0]
    assert api.get(following).json() == second
    assert api.get(f"/v1/jobs/{job}/log?kind=stage&kind=epoch").json()["items"] == []
    assert api.get(f"/v1/jobs/{job}/log?kind=nonsense").status_code == 422


@pytest.mark.parametrize(
    ("work", "status", "where"),
    [
        ({"kind": "dance"}, 422, ["body"]),
        ({"kind": "search"}, 422, ["body", "n_trials"]),
        ({"kind": "promote", "top_k": 0}, 422, ["body", "top_k"]),
        ({"kind": "promote", "priority": False}, 422, ["body", "priority"]),
        ({"kind": "search", "n_trials": 100}, 409, None),
        ({"kind": "search", "n_trials": 100, "queue": True, "priority": 7}, 202, None),
    ],
)
def test_further_work_is_asked_for_by_rest(api: httpx.Client, work: object, status: int, where: object) -> None:
    """202 with the job and its address; a wrong body is refused at its field, an unfinished job without `queue` as 409."""
    api.post(POST, json={"name": "a"})
    answer = api.post(f"{POST}/a/jobs", json=work)
    assert answer.status_code == status, answer.text
    if where is not None:
        assert answer.json()["errors"][0]["loc"] == where
    if status == 202:
        job = api.get(answer.headers["Location"]).json()
        assert job == answer.json()
        assert (job["work"]["n_trials"], job["priority"], job["after"]) == (100, 7, 1)


def test_a_study_is_extended_and_then_promoted(tmp_path: Path) -> None:
    """A further search goes on to its new total and promotes nothing; a further promotion trains the best anew, and the study
    has a promoted model; each is a job with its own log."""
    settings = Settings(data_dir=tmp_path, parallel=2)
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        install_digits(settings.datasets_dir)
        service.finished("a", dataset="digits", budget={"n_trials": 3})
        for work in ({"kind": "search", "n_trials": 5}, {"kind": "promote", "top_k": 1, "epochs": 1, "queue": True}):
            assert api.post(f"{POST}/a/jobs", json=work).status_code in (202, 409)
            wait_until(lambda: service.status("a")["state"] == "succeeded", "the job has ended")
        status = service.status("a")
        assert (status["trials"]["total"], status["spec"]["budget"]["n_trials"]) == (5, 5)
        assert status["promoted"] is not None
        kinds = [job["work"] and job["work"]["kind"] for job in service.get("/v1/jobs")["items"]]
        assert kinds == ["promote", "search", None]
        told = [entry["text"] for entry in service.get(f"/v1/jobs/{status['job']['id']}/log?kind=stage")["items"]]
        assert "promotion begins" in told
        assert "search begins" not in told


def test_a_job_that_failed_by_its_trials_has_a_chance_when_retried(tmp_path: Path) -> None:
    """A trial that lost three workers fails a job with `max_failed` 0; retried, the job ends the other trials and succeeds. Its
    history tells each start of the trial."""
    settings = Settings(data_dir=tmp_path, parallel=1)
    with connect(settings) as api, running(settings):
        service = Service(settings, api)
        budget = {"n_trials": 2, "max_failed": 0}
        subset = {"train": 10_000, "validation": 500, "epochs": 24}
        point = {name: value for name, value in Hyperparameters().model_dump().items() if value is not None}
        space = {**point, "width": {"choices": [128, 16]}}  # trial 0 is the default
        service.post("a", search_space=space, subset=subset, pruner={"kind": "none"}, budget=budget)
        kill_while_it_trains(service, "a")
        status = service.finish("a")
        assert (status["state"], status["stop_reason"]) == ("failed", "max_failed")
        history = service.get(f"{POST}/a/trials/0")["history"]
        assert [attempt["outcome"] for attempt in history] == ["killed"] * 3
        assert all("SIGKILL" in attempt["detail"] and attempt["job"] == 1 for attempt in history[:2])
        assert history == sorted(history, key=lambda attempt: str(attempt["started_at"]))
        service.api.post("/v1/jobs/1/retry")
        status = service.finish("a")
        assert (status["state"], status["trials"]["fail"], status["trials"]["total"]) == ("succeeded", 1, 2)
