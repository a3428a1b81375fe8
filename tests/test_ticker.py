"""Schedules fired on a real database, at times that the test says."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, select, update

from tuner.runner.ticker import Ticker
from tuner.settings import Settings
from tuner.specs.schedule import ScheduleEdit, ScheduleSpec
from tuner.specs.study import StudySpec
from tuner.store import due_times, firing, jobs, posting, schedule_runs, schedules, studies
from tuner.store.database import open_database, reading, writing
from tuner.store.jobs import Job, JobState
from tuner.store.schedule_runs import Outcome, ScheduleRun
from tuner.store.tables import jobs as job_rows
from tuner.store.tables import schedules as schedule_rows

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def create(engine: Engine, name: str = "s", time: datetime = NOON - HOUR, **changes: Any) -> None:
    """Hourly; its first due time after `time`, eleven, is noon."""
    hourly: dict[str, Any] = {"name": name, "cron": "0 * * * *", "study": {"name": f"{name}-{{date}}"}}
    with writing(engine) as connection:
        schedules.create_schedule(connection, ScheduleSpec.model_validate({**hourly, **changes}), time)


def edit(engine: Engine, time: datetime, name: str = "s", **changes: Any) -> None:
    with writing(engine) as connection:
        schedule = schedules.find_schedule(connection, name, lock=True)
        schedules.edit_schedule(connection, schedule, schedule.spec.edited(ScheduleEdit(**changes)), time)


def runs_of(engine: Engine, name: str = "s") -> list[ScheduleRun]:
    """The oldest first."""
    with reading(engine) as connection:
        return schedule_runs.list_runs(connection, schedules.find_schedule(connection, name).id, None, 5000)[::-1]


def told(engine: Engine, name: str = "s") -> list[tuple[str, float]]:
    """Each run's outcome, and its fire time in hours from noon."""
    return [(str(run.outcome), (run.fire_time - NOON) / HOUR) for run in runs_of(engine, name)]


def next_fire_time(engine: Engine, name: str = "s") -> datetime | None:
    with reading(engine) as connection:
        return schedules.find_schedule(connection, name).next_fire_time


def all_jobs(engine: Engine) -> list[Job]:
    with reading(engine) as connection:
        return list(connection.execute(select(job_rows).order_by(job_rows.c.id)).all())


def end_jobs(engine: Engine, state: JobState = JobState.SUCCEEDED) -> None:
    with writing(engine) as connection:
        connection.execute(update(job_rows).values(state=state))


@pytest.fixture
def ticker(engine: Engine, settings: Settings) -> Ticker:
    return Ticker(engine, settings, threading.Event())


def test_a_due_time_makes_a_study_and_queues_its_job(engine: Engine, ticker: Ticker) -> None:
    """Nothing before it is due; then one run, one study named after the due time in UTC, one queued job; the next time is set."""
    create(engine, time_zone="Europe/Berlin", study={"name": "s-{date}", "budget": {"n_trials": 7}})
    ticker.tick(NOON - SECOND)
    assert told(engine) == []
    ticker.tick(NOON + SECOND)
    ticker.tick(NOON + 2 * SECOND)
    [run], [job] = runs_of(engine), all_jobs(engine)
    assert (run.outcome, run.fire_time, run.started_at) == (Outcome.STARTED, NOON, NOON + SECOND)
    assert (run.study, run.job_id, run.study_id, job.state) == (
        "s-20260601-120000",
        job.id,
        job.study_id,
        JobState.QUEUED,
    )
    with reading(engine) as connection:
        study = studies.find_study(connection, "s-20260601-120000")
    assert study is not None
    assert study.spec is not None
    assert study.spec.budget.n_trials == 7
    assert next_fire_time(engine) == NOON + HOUR


def test_two_hundred_schedules_due_in_one_minute_fire_once_each(engine: Engine, ticker: Ticker) -> None:
    """However often the ticker looks."""
    for number in range(200):
        create(engine, f"s{number}", cron="0 12 * * *")
    for second in range(4):
        ticker.tick(NOON + second * SECOND)
    assert Counter(job.study_id for job in all_jobs(engine)).most_common(1)[0][1] == 1
    assert [told(engine, f"s{number}") for number in range(200)] == [[("started", 0.0)]] * 200


def test_three_runners_on_one_database_fire_nothing_twice(
    engine: Engine, database_url: str, settings: Settings
) -> None:
    """Three tickers with connections of their own, at the same due times at once: one run and one job for each of them."""
    for number in range(5):
        create(engine, f"s{number}", overlap="queue")
    start = threading.Barrier(3)
    engines = [open_database(database_url) for _ in range(3)]

    def tick(own: Engine) -> None:
        ticker = Ticker(own, settings, threading.Event())
        for hour in range(4):
            start.wait()
            ticker.tick(NOON + hour * HOUR)

    threads = [threading.Thread(target=tick, args=(own,)) for own in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for own in engines:
        own.dispose()
    every_hour = [("started", float(hour)) for hour in range(4)]
    assert [told(engine, f"s{number}") for number in range(5)] == [every_hour] * 5
    assert len(all_jobs(engine)) == 20


def test_a_second_runner_that_had_read_the_same_time_fires_nothing(engine: Engine, settings: Settings) -> None:
    """The time is compared and swapped: what was read before another runner's commit moves nothing after it."""
    create(engine)
    with reading(engine) as connection:
        read_by_both = schedules.find_schedule(connection, "s")
    for expected in (True, False):
        with writing(engine) as connection:
            assert schedules.advance(connection, read_by_both, NOON + HOUR) is expected


def test_skip_lets_a_firing_pass_while_a_job_is_unfinished(engine: Engine, ticker: Ticker) -> None:
    """Also while it is paused; a skip is a run with its reason, and the next free firing starts again."""
    create(engine)
    ticker.tick(NOON)
    ticker.tick(NOON + HOUR)
    end_jobs(engine, JobState.PAUSED)
    ticker.tick(NOON + 2 * HOUR)
    end_jobs(engine, JobState.FAILED)
    ticker.tick(NOON + 3 * HOUR)
    assert told(engine) == [("started", 0.0), ("skipped", 1.0), ("skipped", 2.0), ("started", 3.0)]
    first, queued, paused, _ = runs_of(engine)
    assert queued.reason == f"job {first.job_id} of an earlier run is queued"
    assert paused.reason == f"job {first.job_id} of an earlier run is paused"


def test_queue_makes_a_chain_of_jobs(engine: Engine, ticker: Ticker) -> None:
    """Each job waits for the one before it: only the first is claimed, the second when the first has ended."""
    create(engine, overlap="queue")
    for hour in range(3):
        ticker.tick(NOON + hour * HOUR)
    first, second, third = all_jobs(engine)
    assert (first.after_job_id, second.after_job_id, third.after_job_id) == (None, first.id, second.id)
    lease = jobs.claim(engine, "runner", [])
    assert lease is not None
    assert lease.job_id == first.id
    assert jobs.claim(engine, "runner", []) is None
    with writing(engine) as connection:
        jobs.end_job(connection, lease, JobState.FAILED)
    following = jobs.claim(engine, "runner", [])
    assert following is not None
    assert following.job_id == second.id


def test_a_queue_has_an_end(engine: Engine, ticker: Ticker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that fires faster than its jobs end stops queueing, and says so."""
    monkeypatch.setattr(firing, "MAX_QUEUED", 2)
    create(engine, overlap="queue")
    for hour in range(3):
        ticker.tick(NOON + hour * HOUR)
    assert told(engine) == [("started", 0.0), ("started", 1.0), ("skipped", 2.0)]
    assert runs_of(engine)[-1].reason == "at most 2 jobs of a schedule may be unfinished, but 2 are"


def test_a_missed_time_is_a_run(engine: Engine, ticker: Ticker) -> None:
    """After an outage beyond the grace the history says what was missed and how late it was found; nothing starts."""
    create(engine)
    ticker.tick(NOON + 2.5 * HOUR)
    assert told(engine) == [("missed", 2.0)]
    [missed] = runs_of(engine)
    assert (
        missed.reason
        == "it may be 300 s late, but was 1800 s; stands for every due time since 2026-06-01T12:00:00.000000Z"
    )
    assert (missed.job_id, missed.study, missed.started_at, all_jobs(engine)) == (None, None, None, [])
    assert next_fire_time(engine) == NOON + 3 * HOUR


def test_after_an_outage_without_coalescing_each_time_fires(engine: Engine, ticker: Ticker) -> None:
    """Those within the grace, in their order and in one go."""
    create(engine, coalesce=False, overlap="queue", misfire_grace_seconds=7200)
    ticker.tick(NOON + 3 * HOUR)
    assert told(engine) == [("missed", 0.0), ("started", 1.0), ("started", 2.0), ("started", 3.0)]
    assert [run.study for run in runs_of(engine)[1:]] == [f"s-20260601-1{hour}0000" for hour in (3, 4, 5)]


def test_what_is_too_much_to_catch_up_with_is_missed(
    engine: Engine, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although it is within the grace; the run says so."""
    for module in (due_times, firing):
        monkeypatch.setattr(module, "MAX_CATCH_UP", 2)
    create(engine, coalesce=False, misfire_grace_seconds=86_400)
    ticker.tick(NOON + 4 * HOUR)
    assert told(engine) == [("missed", 2.0), ("started", 3.0), ("skipped", 4.0)]
    reason = "at most 2 due times are caught up with, and newer ones had gathered"
    assert str(runs_of(engine)[0].reason).startswith(f"{reason}; stands for every due time since 2026-06-01T12:00")


def test_a_clock_set_back_fires_nothing_again(engine: Engine, ticker: Ticker) -> None:
    """None until it has caught up, then the next; set forward, the hour left out is missed or coalesced."""
    create(engine)
    for minutes in (0, 59, 1, 58, 60):  # at 12:59 the clock goes back to 12:01
        ticker.tick(NOON + timedelta(minutes=minutes))
        end_jobs(engine)
    assert told(engine) == [("started", 0.0), ("started", 1.0)]
    ticker.tick(NOON + HOUR - SECOND)
    ticker.tick(NOON + HOUR + SECOND)
    assert len(told(engine)) == 2
    ticker.tick(NOON + 3 * HOUR + SECOND)
    assert told(engine)[2:] == [("started", 3.0)]


def test_a_clock_that_was_wrong_by_years_does_not_silence_a_schedule(engine: Engine, ticker: Ticker) -> None:
    """Fired in 2036 by a wrong clock, it goes on with this year's times once the clock is right; none of them fires twice."""
    create(engine)
    ticker.tick(NOON)
    end_jobs(engine)
    wrong = NOON.replace(year=2036)
    ticker.tick(wrong)
    end_jobs(engine)
    assert next_fire_time(engine) == wrong + HOUR
    ticker.tick(NOON + SECOND)
    assert next_fire_time(engine) == NOON + HOUR
    ticker.tick(NOON + HOUR)
    assert [run.fire_time for run in runs_of(engine)] == [NOON, wrong, NOON + HOUR]


def test_a_clock_set_back_by_days_repeats_no_time(engine: Engine, ticker: Ticker) -> None:
    """The schedule follows the new clock, but a time that has its run is passed over; a time without one fires."""
    create(engine, cron="0 12 * * *")
    for day in range(3):
        ticker.tick(NOON + day * 24 * HOUR)
        end_jobs(engine)
    ticker.tick(NOON - HOUR)
    assert next_fire_time(engine) == NOON
    for day in range(4):
        ticker.tick(NOON + day * 24 * HOUR)
        end_jobs(engine)
    assert told(engine) == [("started", 24.0 * day) for day in range(4)]


def test_a_paused_schedule_does_not_fire_and_makes_up_for_nothing(engine: Engine, ticker: Ticker) -> None:
    """While it is paused it waits for no time; resumed, for the next one."""
    create(engine)
    edit(engine, NOON - SECOND, paused=True)
    assert next_fire_time(engine) is None
    ticker.tick(NOON + SECOND)
    edit(engine, NOON + 2 * SECOND, paused=False)
    ticker.tick(NOON + 3 * SECOND)
    assert told(engine) == []
    assert next_fire_time(engine) == NOON + HOUR


def test_an_edit_counts_its_times_anew(engine: Engine, ticker: Ticker) -> None:
    """Where the times change; an edit of anything else leaves the time that is waited for."""
    create(engine, cron=None, interval_seconds=3600)
    edit(engine, NOON - 10 * SECOND, overlap="queue")
    assert next_fire_time(engine) == NOON
    edit(engine, NOON - 10 * SECOND, interval_seconds=60)
    assert next_fire_time(engine) == NOON + 50 * SECOND
    edit(engine, NOON, cron="30 2 * * *", time_zone="Europe/Berlin")
    assert next_fire_time(engine) == datetime(2026, 6, 2, 0, 30, tzinfo=UTC)


def test_a_run_by_hand(engine: Engine, ticker: Ticker, settings: Settings) -> None:
    """Also of a paused schedule, honouring overlap; two in one second have two fire times, and a due time that one of them
    has taken is not fired again."""
    create(engine, cron=None, interval_seconds=1, overlap="queue", time=NOON - SECOND)

    def run(time: datetime) -> ScheduleRun:
        with writing(engine) as connection:
            return firing.fire_now(connection, schedules.find_schedule(connection, "s", lock=True), time, settings)

    by_hand = [run(NOON + 0.3 * SECOND) for _ in range(2)]
    assert [run.fire_time for run in by_hand] == [NOON, NOON + SECOND]
    assert [run.study for run in by_hand] == ["s-20260601-120000", "s-20260601-120001"]
    for second in range(3):
        ticker.tick(NOON + second * SECOND)
    assert [run.fire_time for run in runs_of(engine)] == [NOON, NOON + SECOND, NOON + 2 * SECOND]
    edit(engine, NOON, paused=True, overlap="skip")
    assert run(NOON + 9 * SECOND).outcome is Outcome.SKIPPED
    end_jobs(engine)
    assert run(NOON + 10 * SECOND).outcome is Outcome.STARTED
    assert next_fire_time(engine) is None


def test_a_firing_that_cannot_post_has_failed_and_the_schedule_goes_on(
    engine: Engine, ticker: Ticker, settings: Settings
) -> None:
    """A name that is taken, a data set that is gone: the run says why, and nothing half-made remains."""
    with writing(engine) as connection:
        posting.post_study(connection, StudySpec(name="s-20260601-120000"), settings)
    create(engine)
    create(engine, "t", study={"name": "t-{date}", "dataset": "gone"})
    for hour in range(2):
        ticker.tick(NOON + hour * HOUR)
    assert told(engine) == [("failed", 0.0), ("started", 1.0)]
    assert runs_of(engine)[0].reason == "a study's name must be free, but 's-20260601-120000' is taken"
    assert told(engine, "t") == [("failed", 0.0), ("failed", 1.0)]
    assert runs_of(engine, "t")[0].reason == "no data set is named 'gone'"
    assert len(all_jobs(engine)) == 2


def test_one_broken_schedule_stops_no_other(engine: Engine, ticker: Ticker) -> None:
    """A row that cannot be understood, of a version to come perhaps, is left alone, due or not; the others fire."""
    create(engine, "due")
    create(engine, "far", cron="0 0 29 2 *")
    with writing(engine) as connection:
        connection.execute(update(schedule_rows).values(spec={"every": "now"}))
    create(engine)
    ticker.tick(NOON)
    ticker.tick(NOON + SECOND)
    assert told(engine) == [("started", 0.0)]


def test_continue_searches_on_in_one_study(engine: Engine, ticker: Ticker) -> None:
    """The first firing makes the study; each later one queues a job whose total is what the study has, or will have, and the
    budget's trials; all of them in one study."""
    create(
        engine, policy="continue", overlap="queue", study={"name": "s", "budget": {"n_trials": 5}, "promotion": None}
    )
    for hour in range(3):
        ticker.tick(NOON + hour * HOUR)
    assert told(engine) == [("started", 0.0), ("started", 1.0), ("started", 2.0)]
    assert {run.study for run in runs_of(engine)} == {"s"}
    first, second, third = all_jobs(engine)
    assert (first.work, second.work["n_trials"], third.work["n_trials"]) == (None, 10, 15)


def test_continue_counts_the_trials_that_are_there(engine: Engine, ticker: Ticker, database_url: str) -> None:
    """A search that stopped early is taken up from where it stopped."""
    create(engine, policy="continue", study={"name": "s", "budget": {"n_trials": 5}, "promotion": None})
    ticker.tick(NOON)
    storage = optuna.storages.RDBStorage(database_url)
    optuna.load_study(study_name="s", storage=storage).optimize(
        lambda trial: trial.suggest_float("x", 0, 1), n_trials=3
    )
    storage.engine.dispose()
    end_jobs(engine)
    ticker.tick(NOON + HOUR)
    assert all_jobs(engine)[-1].work["n_trials"] == 8
    ticker.tick(NOON + 2 * HOUR)
    assert told(engine)[-1] == ("skipped", 2.0)


def test_continue_mixes_no_two_specs(engine: Engine, ticker: Ticker) -> None:
    """A study that was made by another spec, or by a plain Optuna script, is left alone."""
    study = {"name": "s", "budget": {"n_trials": 5}, "promotion": None}
    create(engine, policy="continue", study=study)
    ticker.tick(NOON)
    end_jobs(engine)
    edit(engine, NOON, study={**study, "budget": {"n_trials": 9}})
    ticker.tick(NOON + HOUR)
    end_jobs(engine)
    edit(engine, NOON + HOUR, study={**study, "seed": 1})
    ticker.tick(NOON + 2 * HOUR)
    assert told(engine) == [("started", 0.0), ("started", 1.0), ("failed", 2.0)]
    assert "that of 's' is another one" in str(runs_of(engine)[-1].reason)
