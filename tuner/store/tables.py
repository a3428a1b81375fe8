"""Our tables, beside Optuna's. A trial, its parameters, values and reports stand in Optuna's tables and nowhere else.

    tuner_studies      what was asked for, of the studies made here (a study without a row is foreign)
    tuner_jobs         the work on a study, with its lease
    tuner_runners      the runners and when each was last alive
    tuner_attempts     every start of a trial, and how it ended
    tuner_curves       one record an epoch, of trials and of runs
    tuner_runs         training runs that are no trials: promotion, and the default where the space excludes it
    tuner_models       the models that were kept
    tuner_test_ledger  every opening of a sealed test set, written before the images are read

Changing a table needs a migration in `migrations/versions`.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

_TIME = String(32)  # RFC 3339, UTC, to the microsecond: it sorts as text and reads the same on both databases

studies = Table(
    "tuner_studies",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    # SQLite gives a deleted study's id to the next one: a row counts only where id and name agree with Optuna's.
    Column("name", String(512), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("deleted_at", _TIME),
)

jobs = Table(
    "tuner_jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("request", String(16)),
    Column("stage", String(16)),
    Column("stop_reason", String(32)),
    Column("error", Text),
    Column("attempt", Integer, nullable=False, default=0),
    Column("owner", String(64)),
    Column("fence", Integer, nullable=False, default=0),
    Column("heartbeat", Integer, nullable=False, default=0),
    Column("elapsed_seconds", Float, nullable=False, default=0.0),
    Column("progress_done", Integer, nullable=False, default=0),
    Column("progress_total", Integer, nullable=False, default=0),
    Column("eta_seconds", Float),
    Column("created_at", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("finished_at", _TIME),
    Index("tuner_jobs_by_state", "state", "id"),
    sqlite_autoincrement=True,
)

runners = Table(
    "tuner_runners",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("beat_at", _TIME, nullable=False),
)

attempts = Table(
    "tuner_attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("trial_id", Integer, nullable=False, index=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("job_id", Integer, ForeignKey("tuner_jobs.id"), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("started_at", _TIME, nullable=False),
    Column("ended_at", _TIME),
    Column("outcome", String(16)),
    Column("detail", Text),
)

curves = Table(
    "tuner_curves",
    metadata,
    Column("subject", String(8), primary_key=True),
    Column("subject_id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("record", JSON, nullable=False),
)

runs = Table(
    "tuner_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id"), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("contender", String(16), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("hyperparameters", JSON, nullable=False),
    Column("parameters", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("validation_accuracy", Float),
    Column("best_epoch", Integer),
    Column("seconds", Float),
    Column("cpu_seconds", Float),
    Column("weights", String(80)),
    Column("reason", Text),
    UniqueConstraint("study_id", "stage", "contender", "seed"),
)

models = Table(
    "tuner_models",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("contender", String(16), nullable=False),
    Column("hyperparameters", JSON, nullable=False),
    Column("parameters", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("promoted", Boolean, nullable=False),
    Column("created_at", _TIME, nullable=False),
    UniqueConstraint("study_id", "contender"),
)

test_ledger = Table(
    "tuner_test_ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", String(100), nullable=False),
    Column("dataset_checksum", String(64), nullable=False, index=True),
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id"), nullable=False),
    Column("study_name", String(512), nullable=False),
    Column("models", JSON, nullable=False),
    Column("opened_at", _TIME, nullable=False),
    Column("reading", JSON),
    UniqueConstraint("study_id"),
)
