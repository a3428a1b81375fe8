"""What is purged leaves nothing, and takes nothing of others; what is old goes, and what is needed stays."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, Engine, MetaData, Table, func, insert, select, update

from api.dependencies import find_files, find_model
from tests.conftest import connect, wait_until
from tuner.errors import Conflict, NotFound
from tuner.runner import housekeeper
from tuner.runner.housekeeper import Housekeeper
from tuner.settings import Settings
from tuner.specs.earlier_trial import EarlierTrial
from tuner.specs.schedule import ScheduleSpec
from tuner.specs.study import StudySpec
from tuner.store import (
    attempts,
    champions,
    events,
    jobs,
    ledger,
    schedule_runs,
    schedules,
    studies,
    tables,
    trials,
    warm_starts,
)
from tuner.store.champions import Contest, Ruling
from tuner.store.clock import now
from tuner.store.database import open_database, reading, writing
from tuner.store.events import Entry
from tuner.store.jobs import UNFINISHED, JobKind, JobState, Lease
from tuner.store.purge import purge_study
from tuner.store.retention import keep_house
from tuner.store.schedule_runs import Outcome, ScheduleRun

CHECKSUM = "c" * 64
TODAY = datetime.now(UTC)
LATER = TODAY + timedelta(days=40)


class Stored:
    """A study that has ended, with files and with rows in every table that knows studies, trials, jobs or runs."""

    def __init__(self, engine: Engine, models_dir: Path, name: str, trial_count: int = 3, **model: Any) -> None:
        self.engine, self.name = engine, name
        with writing(engine) as connection:
            spec = StudySpec.model_validate({"name": name, "webhook": "http://hook.example/"})
            self.job_id = studies.create_study(connection, spec, [], trial_count)
            self.id = int(connection.execute(select(tables.jobs.c.study_id).filter_by(id=self.job_id)).scalar_one())
            self.model_id = f"{self.job_id:016x}"
            self.trial_ids = [self._add_trial(connection, number) for number in range(trial_count)]
            self.run_id = self._add_run(connection)
            self._add_model(connection, model)
            opener = ledger.Opener(self.id, name, self.job_id, "mnist", CHECKSUM)
            ledger.record_opening(connection, opener, [name])
            row = {"job_id": self.job_id, "study_id": self.id, "verdict": {}, "recorded_at": now()}
            connection.execute(insert(tables.verdicts).values(row))
            told = EarlierTrial(study="a", number=0, state="COMPLETE", params={}, values=(0.5,), reports={})
            warm_starts.keep(connection, self.id, [told])
            events.record(connection, self.id, self.job_id, "epoch", number=0, epoch=1, value=0.5)
            jobs.cancel_all(connection, self.id)
        self.weights, self.checkpoint = models_dir / f"run-{self.run_id}", models_dir / f"run-{self.run_id}.checkpoint"
        self.model = models_dir / self.model_id
        for folder in (self.model, self.weights):
            folder.mkdir(parents=True)
            (folder / "weights.safetensors").write_bytes(bytes(10**6))
        self.checkpoint.write_bytes(bytes(1000))

    def _add_trial(self, connection: Connection, number: int) -> int:
        trial = FrozenTrial(
            number=number,
            trial_id=-1,
            state=TrialState.COMPLETE,
            value=number / 10,
            datetime_start=datetime.now(),
            datetime_complete=datetime.now(),
            params={"x": 0.25},
            distributions={"x": FloatDistribution(0, 1)},
            user_attrs={"seed": 1},
            system_attrs={"fixed": 1},
            intermediate_values={},
        )
        trial_id = trials.start_trial(connection, self.id, trial)
        attempts.open_attempt(connection, trial_id, self.id, self.job_id, 1)
        trials.add_reports(connection, [(trial_id, 1, 0.5)])
        trials.finish_trial(connection, trial_id, trial)
        curve = {"subject": "trial", "subject_id": trial_id, "epoch": 1, "record": {}}
        connection.execute(insert(tables.curves).values(curve))
        return trial_id

    def _add_run(self, connection: Connection) -> int:
        values = {"study_id": self.id, "job_id": self.job_id, "stage": "promotion", "contender": "default", "seed": 1}
        run = insert(tables.runs).values(**values, hyperparameters={}, parameters=1, state="complete")
        run_id = int(connection.execute(run).inserted_primary_key[0])  # type: ignore[index]
        connection.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(weights=f"run-{run_id}"))
        curve = {"subject": "run", "subject_id": run_id, "epoch": 1, "record": {}}
        connection.execute(insert(tables.curves).values(curve))
        return run_id

    def _add_model(self, connection: Connection, changes: dict[str, Any]) -> None:
        values = {
            "id": self.model_id,
            "study_id": self.id,
            "job_id": self.job_id,
            "kind": "single",
            "contender": "trial-1",
            "hyperparameters": StudySpec(name="x").default().model_dump(),
            "parameters": 1,
            "metrics": {"validation_accuracy": 0.9},
            "sha256": "x",
            "promoted": True,
            "created_at": now(),
        }
        connection.execute(insert(tables.models).values({**values, **changes}))

    def wins(self, schedule: str) -> None:
        """The study was started by the schedule, whose champion is its model from now on."""
        with writing(self.engine) as connection:
            if not connection.execute(select(tables.schedules).filter_by(name=schedule)).all():
                spec = ScheduleSpec.model_validate({"name": schedule, "cron": "0 3 * * *", "study": {"name": "{date}"}})
                schedules.create_schedule(connection, spec, TODAY)
            found = schedules.find_schedule(connection, schedule)
            run = ScheduleRun(datetime.now(UTC), Outcome.STARTED, job_id=self.job_id, study_id=self.id, study=self.name)
            schedule_runs.add_run(connection, found.id, run)
            contest = Contest(
                reason="", challenger=self.model_id, champion=champions.standing_model(connection, found.id)
            )
            champions.decide(
                connection, found.id, Lease(self.job_id, self.id, JobKind.SEARCH, 1, 1), Ruling.REPLACED, contest
            )

    def delete(self) -> None:
        with writing(self.engine) as connection:
            study = studies.find_study(connection, self.name)
            assert study is not None
            studies.delete_study(connection, study)

    def purge(self, models_dir: Path) -> None:
        self.delete()
        for _ in purge_study(self.engine, self.id, models_dir):
            pass

    def ends_as(self, state: JobState, run_state: str = "complete") -> None:
        with writing(self.engine) as connection:
            connection.execute(update(tables.jobs).where(tables.jobs.c.id == self.job_id).values(state=state))
            connection.execute(update(tables.runs).where(tables.runs.c.id == self.run_id).values(state=run_state))


Store = Callable[..., Stored]


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models"


@pytest.fixture
def store(engine: Engine, models_dir: Path) -> Store:
    return lambda name, **more: Stored(engine, models_dir, name, **more)


@pytest.fixture
def keep(engine: Engine, tmp_path: Path) -> Callable[..., None]:
    """One round of housekeeping at a given time, with given settings."""

    def keep(time: datetime, **settings: Any) -> None:
        for _ in keep_house(engine, Settings(data_dir=tmp_path / "data", **settings), time):
            pass

    return keep


@cache
def tables_of(engine: Engine) -> list[Table]:
    """As the database has them, whoever has made them."""
    found = MetaData()
    found.reflect(engine)
    return found.sorted_tables


def rows_of(engine: Engine, stored: Stored) -> dict[str, int]:
    """By table of the database as it is, how many rows know the study, one of its trials, its job or its run."""
    known = {"study_id": [stored.id], "trial_id": stored.trial_ids, "job_id": [stored.job_id]}
    database = dict[str, int]()
    with reading(engine) as connection:
        for table in tables_of(engine):
            conditions: list[ColumnElement[bool]] = [
                table.c[name].in_(ids) for name, ids in known.items() if name in table.c
            ]
            if table.name == "tuner_curves":
                of_trial = (table.c.subject == "trial") & table.c.subject_id.in_(stored.trial_ids)
                conditions = [of_trial | ((table.c.subject == "run") & (table.c.subject_id == stored.run_id))]
            for condition in conditions:
                count = connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
                database[table.name] = max(count, database.get(table.name, 0))
    return database


def listed(engine: Engine) -> list[str]:
    """The names of the studies that users see, from the newest down."""
    ids = select(trials.STUDIES.c.study_id).order_by(trials.STUDIES.c.study_id.desc())
    with reading(engine) as connection:
        found = [studies.find_study_by_id(connection, study_id) for study_id in connection.execute(ids).scalars()]
    return [study.name for study in found if study is not None]


@contextmanager
def stock(url: str) -> Iterator[RDBStorage]:
    """The database as stock Optuna opens it."""
    storage = RDBStorage(url)
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def seen_by_optuna(url: str) -> dict[str, list[FrozenTrial]]:
    """What stock Optuna finds: studies by name, with their trials."""
    with stock(url) as storage:
        found = optuna.get_all_study_summaries(storage)
        return {summary.study_name: storage.get_all_trials(summary._study_id) for summary in found}


def test_nothing_is_left_of_a_purged_study(engine: Engine, store: Store, models_dir: Path) -> None:
    """Not a row in any table, Optuna's or ours, nor a file; the studies around it stay as they are, also to stock Optuna. The
    ledger counts its opening for ever, and a schedule remembers that it has started it."""
    url = engine.url.render_as_string(hide_password=False)
    before, purged, after = store("before"), store("purged", trial_count=7), store("after")
    purged.wins("nightly")
    after.wins("nightly")
    rows, others = rows_of(engine, purged), (rows_of(engine, before), rows_of(engine, after))
    never_written = {"study_user_attributes", "study_system_attributes", "trial_heartbeats"}
    assert {table for table, count in rows.items() if count == 0} <= never_written
    seen = seen_by_optuna(url)
    purged.purge(models_dir)
    assert {table: count for table, count in rows_of(engine, purged).items() if count} == {}
    assert (rows_of(engine, before), rows_of(engine, after)) == others
    del seen["purged"]
    assert seen_by_optuna(url) == seen
    assert not any(path.exists() for path in (purged.model, purged.weights, purged.checkpoint))
    assert all(path.exists() for path in (after.model, after.weights, after.checkpoint))
    with reading(engine) as connection:
        assert len(ledger.load_openings(connection, CHECKSUM)) == 3
        schedule = schedules.find_schedule(connection, "nightly")
        history = schedule_runs.list_runs(connection, schedule.id, None, 10)
        assert [(run.study, run.study_id is None) for run in history] == [("after", False), ("purged", True)]


def test_no_id_is_used_again_while_others_remember_it(
    engine: Engine, store: Store, models_dir: Path, keep: Callable[..., None]
) -> None:
    """A process that has the newest study in its cache when that is purged, and a new one comes, shows the new one's trials. What
    had to stay for it, SQLite's highest ids, is hidden, empty, and gone when there are newer ones."""
    url = engine.url.render_as_string(hide_password=False)
    store("oldest")
    purged = store("purged")
    warm = optuna.storages.get_storage(url)
    assert len(optuna.load_study(study_name="purged", storage=warm).trials) == 3
    purged.purge(models_dir)
    left = {table: count for table, count in rows_of(engine, purged).items() if count}
    on_sqlite = engine.dialect.name == "sqlite"
    stub = {"studies": 1, "study_directions": 1, "trials": 1, "tuner_studies": 1}
    assert left == (stub if on_sqlite else {})
    assert listed(engine) == ["oldest"]
    new = store("new", trial_count=5)
    assert new.id > purged.id
    assert min(new.trial_ids) > max(purged.trial_ids)
    shown = optuna.load_study(study_name="new", storage=warm).trials
    assert [(trial.number, trial.value) for trial in shown] == [(n, n / 10) for n in range(5)]
    keep(TODAY)
    assert not any(rows_of(engine, purged).values())
    warm.remove_session()
    warm._backend.engine.dispose()  # type: ignore[attr-defined]


def test_a_purge_goes_on_where_it_was(
    engine: Engine, store: Store, models_dir: Path, keep: Callable[..., None]
) -> None:
    """After any step that it was interrupted at, the study cannot be restored, and the next housekeeping ends its purge."""
    victims = [store(f"victim-{n}") for n in range(5)]
    store("last")
    for steps, victim in enumerate(victims, start=1):
        victim.delete()
        purge = purge_study(engine, victim.id, models_dir)
        for _ in range(steps):
            next(purge)
        with reading(engine) as connection, pytest.raises(NotFound, match=victim.name):
            studies.find_deleted(connection, victim.name)
    keep(TODAY)
    assert not any(count for victim in victims for count in rows_of(engine, victim).values())


def test_what_is_needed_is_not_purged(
    engine: Engine, store: Store, models_dir: Path, keep: Callable[..., None]
) -> None:
    """A study that is not deleted is refused, and one that a schedule's champion comes from until there is another champion."""
    there, champion = store("there"), store("champion")
    with pytest.raises(Conflict, match="not deleted"):
        next(purge_study(engine, there.id, models_dir))
    champion.wins("nightly")
    with pytest.raises(Conflict, match="champion cannot be purged, but one is that of nightly"):
        champion.purge(models_dir)
    keep(LATER)
    assert champion.model.exists()
    store("next").wins("nightly")
    keep(LATER)
    assert not champion.model.exists()
    assert there.model.exists()


def test_a_study_of_another_program_is_not_taken_for_a_purged_one(
    engine: Engine, store: Store, models_dir: Path
) -> None:
    """Where a stock program has deleted our study and got its id for one of its own, the purge takes our rows only."""
    store("oldest")
    ours = store("ours")
    ours.delete()
    url = engine.url.render_as_string(hide_password=False)
    with stock(url) as storage:
        optuna.delete_study(study_name=f"deleted/{ours.id}/ours", storage=storage)
        optuna.create_study(study_name="theirs", storage=storage).add_trial(optuna.create_trial(value=1.0))
    seen = seen_by_optuna(url)
    for _ in purge_study(engine, ours.id, models_dir):
        pass
    assert seen_by_optuna(url) == seen
    assert listed(engine) == ["theirs", "oldest"]


def test_what_is_old_goes(engine: Engine, store: Store, keep: Callable[..., None]) -> None:
    """Deleted studies after 30 days, logs, arrived webhooks and schedules' runs too, epochs after one; a study that is not
    deleted stays for ever, but where the settings say otherwise, and then it is deleted, not purged."""
    deleted, kept = store("deleted"), store("kept")
    kept.wins("nightly")
    store("newest").wins("nightly")
    deleted.delete()

    def log(stored: Stored) -> list[str]:
        with reading(engine) as connection:
            return [event.kind for event in events.of_job(connection, stored.job_id, 0, 100)]

    keep(TODAY + timedelta(hours=23))
    assert log(kept) == ["job", "epoch", "job"]
    keep(TODAY + timedelta(days=29))
    assert log(kept) == ["job", "job"]
    assert rows_of(engine, deleted)["trials"] == 3
    with writing(engine) as connection:
        done = {"next_attempt_at": None, "delivered_at": now()}
        connection.execute(update(tables.deliveries).where(tables.deliveries.c.study_id == kept.id).values(done))
    keep(LATER)
    assert log(kept) == []
    rows = rows_of(engine, kept)
    assert (rows["tuner_deliveries"], rows["tuner_schedule_runs"]) == (0, 0)
    assert (rows["trials"], rows["tuner_models"], rows["tuner_curves"]) == (3, 1, 4)
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(tables.deliveries)).scalar_one() == 1  # on its way
        assert len(schedule_runs.last_runs(connection, [1])) == 1
    assert not any(rows_of(engine, deleted).values())
    keep(LATER, keep_studies_days=10)
    assert listed(engine) == ["newest"]
    with reading(engine) as connection:
        assert studies.find_deleted(connection, "kept") == [kept.id]


@pytest.mark.parametrize(
    ("state", "run_state", "days", "weights", "checkpoint"),
    [
        (JobState.RUNNING, "running", 400, True, True),
        (JobState.PAUSED, "complete", 400, True, False),
        (JobState.SUCCEEDED, "complete", 2, False, False),
        (JobState.FAILED, "running", 29, True, True),
        (JobState.FAILED, "complete", 29, True, False),
        (JobState.CANCELLED, "running", 31, False, False),
    ],
)
def test_a_runs_files_stay_as_long_as_its_job_can_need_them(
    state: JobState,
    run_state: str,
    days: float,
    weights: bool,
    checkpoint: bool,
    sqlite: Engine,
    models_dir: Path,
    tmp_path: Path,
) -> None:
    """A job that is not over keeps them, one that has failed for a retry until its log goes; the model stays in any case. A
    student's teacher goes with the job. What was half written by a process that died goes, and what is not ours stays."""
    stored = Stored(sqlite, models_dir, "a", promoted=False)
    stored.ends_as(state, run_state)
    halves = [models_dir / name for name in (f".run-{stored.run_id}-77", f"run-{stored.run_id}.77", f".{'a' * 16}-77")]
    orphan, foreign, teacher = (
        models_dir / ("b" * 16),
        models_dir / "notes.txt",
        models_dir / f"teacher-{stored.job_id}",
    )
    for path in (*halves, orphan, foreign, teacher):
        path.write_bytes(b"")
    for _ in keep_house(sqlite, Settings(data_dir=tmp_path / "data"), TODAY):
        pass
    assert all(path.exists() for path in (*halves, orphan, foreign, stored.weights))
    for _ in keep_house(sqlite, Settings(data_dir=tmp_path / "data"), TODAY + timedelta(days=days)):
        pass
    assert (stored.weights.exists(), stored.checkpoint.exists()) == (weights, checkpoint)
    assert [path for path in (*halves, orphan) if path.exists()] == []
    assert teacher.exists() == (state in UNFINISHED)
    assert stored.model.exists()
    assert foreign.exists()
    with reading(sqlite) as connection:
        named = connection.execute(select(tables.runs.c.weights)).scalar_one()
    assert named == (stored.weights.name if weights else None)


def test_models_stay_below_their_limit(
    sqlite: Engine, models_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The files of the oldest go first, their rows stay and say when; a study's winner and a schedule's champion never go, and a
    limit that they alone exceed is said."""
    champion, old, winner, young = (
        Stored(sqlite, models_dir, name, promoted=name == "winner", created_at=f"202{n}")
        for n, name in enumerate(("champion", "old", "winner", "young"))
    )
    champion.wins("nightly")
    for stored in (champion, old, winner, young):
        stored.ends_as(JobState.RUNNING)

    def files(limit_gb: float) -> list[str]:
        settings = Settings(data_dir=tmp_path / "data", keep_models_gb=limit_gb)
        for _ in keep_house(sqlite, settings, TODAY):
            pass
        return [stored.name for stored in (champion, old, winner, young) if stored.model.exists()]

    assert files(0.0085) == ["champion", "old", "winner", "young"]
    assert files(0.0075) == ["champion", "winner", "young"]
    with reading(sqlite) as connection:
        removed = select(tables.models.c.id).where(tables.models.c.files_removed_at.is_not(None))
        assert connection.execute(removed).scalars().all() == [old.model_id]
        with pytest.raises(NotFound, match=f"TUNER_KEEP_MODELS_GB.*, so the files of {old.model_id} were removed at"):
            find_files(find_model(connection, old.model_id), Settings())
    assert files(0.001) == ["champion", "winner"]
    assert "what must be kept takes" in caplog.text


def checkpoint(engine: Engine) -> None:
    """All that was written stands in the file."""
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_file_of_sqlite_shrinks(sqlite: Engine, models_dir: Path) -> None:
    """The pages that a purge has left free are given back to the disk."""
    with writing(sqlite) as connection:
        for _ in range(20):
            events.record_all(connection, 1, 1, [Entry("warning", {"message": "x" * 2000})] * 50)
    checkpoint(sqlite)
    before = Path(str(sqlite.url.database)).stat().st_size
    for _ in keep_house(sqlite, Settings(data_dir=models_dir.parent), LATER):
        pass
    with reading(sqlite) as connection:
        assert connection.exec_driver_sql("PRAGMA freelist_count").scalar_one() == 0
    checkpoint(sqlite)
    assert Path(str(sqlite.url.database)).stat().st_size < before - 1_500_000


def test_purged_by_rest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was deleted under a name is gone for good at once, and a runner's housekeeper removes its rows."""
    monkeypatch.setattr(housekeeper, "LOOK_SECONDS", 0.05)
    path = "/v1/studies/a"
    with connect(settings) as api:
        ids = [_post_and_cancel(api, "a", delete=True), _post_and_cancel(api, "a", delete=True)]
        kept = _post_and_cancel(api, "a")
        assert api.post(f"{path}/purge").status_code == 204
        assert api.get(path).json()["job"]["id"] == kept
        assert [api.post(f"{path}/{verb}").status_code for verb in ("purge", "restore")] == [404, 404]
        engine = open_database(settings.database_url)
        ending = threading.Event()
        thread = threading.Thread(target=Housekeeper(engine, settings, ending).work)
        thread.start()
        wait_until(lambda: _job_ids(engine) == [kept], f"jobs {ids} are gone", 60)
        ending.set()
        thread.join()
        engine.dispose()


def _post_and_cancel(api: httpx.Client, name: str, delete: bool = False) -> int:
    job = api.post("/v1/studies", json={"name": name}).json()["job"]
    api.post(f"/v1/studies/{name}/cancel")
    if delete:
        assert api.delete(f"/v1/studies/{name}").status_code == 204
    return int(job["id"])


def _job_ids(engine: Engine) -> Sequence[int]:
    with reading(engine) as connection:
        return connection.execute(select(tables.jobs.c.id)).scalars().all()
