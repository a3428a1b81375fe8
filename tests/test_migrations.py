"""A database of every earlier schema becomes one of today's, its rows with it."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, select, text

from tuner.errors import Conflict
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.neighbours import CHANGES
from tuner.stages.local_search import Neighbour
from tuner.stages.rung import Candidate
from tuner.store import tables
from tuner.store.database import VERSION_TABLE, alembic_config, migrate, open_database, reading, writing

EARLIER = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][1:]

ROWS = {
    "0001": [
        "INSERT INTO tuner_studies (study_id, name, spec, notes, created_at) VALUES (7, 's', "
        """'{"dataset": "mnist", "search_space": {"shift_pixels": 1}}', '[]', '2026')""",
        "INSERT INTO tuner_jobs (id, study_id, kind, state, attempt, fence, heartbeat, elapsed_seconds, progress_done, "
        "progress_total, created_at) VALUES (3, 7, 'search', 'succeeded', 1, 1, 1, 1.0, 1, 1, '2026')",
        "INSERT INTO tuner_runs (id, study_id, stage, contender, seed, hyperparameters, parameters, state) "
        "VALUES (5, 7, 'rung', 'trial-1', 1, '{}', 10, 'complete')",
        "INSERT INTO tuner_models (id, study_id, kind, contender, hyperparameters, parameters, metrics, sha256, promoted, "
        "created_at) VALUES ('m', 7, 'single', 'trial-1', '{}', 10, '{}', 'x', true, '2026')",
        "INSERT INTO tuner_test_ledger (id, dataset, dataset_checksum, study_id, study_name, models, opened_at) "
        "VALUES (4, 'mnist', 'c', 7, 's', '[]', '2026')",
        "INSERT INTO tuner_attempts (id, trial_id, study_id, job_id, fence, started_at, ended_at, outcome) "
        "VALUES (9, 1, 7, 3, 1, '2026', '2026', 'interrupted')",
    ]
}


def differences(engine: Engine) -> list[object]:
    """Between the database and `tables.py`, apart from Optuna's tables."""
    with reading(engine) as connection:
        included = {"include_object": lambda _object, name, kind, *_: kind != "table" or name.startswith("tuner_")}
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, **included})
        return [d for d in compare_metadata(context, tables.metadata) if VERSION_TABLE not in str(d)]


def test_a_new_database_is_what_the_tables_say(engine: Engine) -> None:
    """The migrations together make exactly the tables that the code uses."""
    assert differences(engine) == []
    if engine.dialect.name == "sqlite":
        with reading(engine) as connection:
            never_reused = connection.execute(text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"))
            declared = {t.name for t in tables.metadata.sorted_tables if t.dialect_options["sqlite"]["autoincrement"]}
            assert set(never_reused.scalars()) == declared


@pytest.mark.usefixtures("no_tables")
@pytest.mark.parametrize("revision", EARLIER)
def test_an_earlier_database_is_upgraded(revision: str, database_url: str) -> None:
    """Rows written under an earlier schema are there after the upgrade, and the schema is today's; no study searches what there
    was not when it was posted."""
    engine = open_database(database_url)
    for known in EARLIER[::-1][: EARLIER[::-1].index(revision) + 1]:
        if known in ROWS or known == revision:
            migrate(engine, known)
        with writing(engine) as connection:
            for statement in ROWS.get(known, []):
                connection.execute(text(statement))
    migrate(engine)
    assert differences(engine) == []
    with reading(engine) as connection:
        spec = connection.execute(select(tables.studies.c.spec)).scalar_one()
        assert spec["search_space"] == {"shift_pixels": 1, "rotate_degrees": 0, "zoom": 0, "batch_norm": False}
        assert connection.execute(text("SELECT id, job_id FROM tuner_runs")).all() == [(5, 3)]
        assert connection.execute(text("SELECT id, job_id FROM tuner_models")).all() == [("m", 3)]
        assert connection.execute(text("SELECT id, priority, stalled FROM tuner_jobs")).all() == [(3, 0, 0)]
        assert connection.execute(text("SELECT id, study_id, forced FROM tuner_test_ledger")).all() == [(4, 7, False)]
        assert connection.execute(text("SELECT outcome FROM tuner_attempts")).all() == [("runner_lost",)]
    engine.dispose()


def test_every_name_of_a_contender_has_room(engine: Engine) -> None:
    """The longest that a search of a million trials gives, which SQLite would take and PostgreSQL refuse."""
    beside = Candidate("trial-999999", Hyperparameters(), 0.9, 1.0, climbed=True)
    name = Neighbour(beside, CHANGES, Hyperparameters()).name
    with writing(engine) as connection:
        study, job = ROWS["0001"][:2]
        connection.execute(text(study))
        connection.execute(text(job))
        row = {"study_id": 7, "job_id": 3, "hyperparameters": {}, "parameters": 10}
        run = {"stage": "local_search", "contender": name, "seed": 1, "state": "complete"}
        connection.execute(tables.runs.insert().values(**row, **run))
        model = {"id": "m", "kind": "single", "contender": f"member-{name}", "metrics": {}, "sha256": "x"}
        connection.execute(tables.models.insert().values(**row, **model, promoted=True, created_at="2026"))
        assert connection.execute(select(tables.runs.c.contender)).scalar_one() == name


def test_a_later_database_is_refused(engine: Engine) -> None:
    """A database that a newer service has upgraded is left alone by an older one."""
    with writing(engine) as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(Conflict, match="9999"):
        migrate(engine)
