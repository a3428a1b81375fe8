"""Our tables, beside Optuna's. A trial, its parameters, values and reports stand in Optuna's tables and nowhere else.

    tuner_studies        what was asked for, of the studies made here (a study without a row is foreign)
    tuner_warm_trials    what earlier studies tell a study's sampler
    tuner_jobs           the work on a study, with its lease
    tuner_events         what happened to a study, in order: a job's log
    tuner_calibrations   what nets of each kind took on each machine that was asked for an estimate
    tuner_runners        the runners and when each was last alive
    tuner_attempts       every start of a trial, and how it ended
    tuner_curves         one record an epoch, of trials and of runs
    tuner_runs           training runs that are no trials: promotion, and the default where the space excludes it
    tuner_models         the models that were kept
    tuner_verdicts       what each job's promotion has found
    tuner_test_ledger    every opening of a sealed test set, written before the images are read
    tuner_schedules      when which study is to be run again
    tuner_schedule_runs  every due time of a schedule, and what came of it
    tuner_champions      the models that have stood for a schedule, and why each was taken
    tuner_deliveries     webhooks on their way, and those that arrived
    tuner_tokens         who may come in, by the hashes of their secrets
    tuner_sessions       browsers that have logged in with a token
    tuner_audit          who asked for which change
    tuner_idempotency_keys  requests that are not carried out a second time, with their answers

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
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
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
    # Null for an outside objective. The name may be given to other data one day; the checksum says which was meant.
    Column("dataset", String(100), index=True),
    Column("dataset_checksum", String(64)),
    # Raised by whoever but its job changes the study's trials; the job then reads them again.
    Column("revision", Integer, nullable=False, default=0, server_default="0"),
    Column("created_at", _TIME, nullable=False),
    Column("deleted_at", _TIME),
    Column(
        "estimate", JSON(none_as_null=True)
    ),  # of its first job, when it was posted; null: nothing was timed by then
)

jobs = Table(
    "tuner_jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("work", JSON(none_as_null=True)),  # what a further job on the study is to do; the study's first has its spec
    Column("after_job_id", Integer),  # it waits until that one has ended
    Column("priority", Integer, nullable=False, default=0, server_default="0"),
    Column("state", String(16), nullable=False),
    Column("request", String(16)),
    Column("stage", String(16)),
    Column("stop_reason", String(32)),
    Column("error", Text),
    Column("attempt", Integer, nullable=False, default=0),
    Column("stalled", Integer, nullable=False, default=0, server_default="0"),  # runners lost since it last got on
    Column("failed_before", Integer, nullable=False, default=0, server_default="0"),  # trials, when it was last queued
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
    Index("tuner_jobs_by_state_and_study", "state", "study_id"),
    Index("tuner_jobs_by_study", "study_id", "state", "id"),
    sqlite_autoincrement=True,
)

warm_trials = Table(
    "tuner_warm_trials",
    metadata,
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id"), primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("trial", JSON, nullable=False),
)

events = Table(
    "tuner_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, nullable=False),
    Column("job_id", Integer, index=True),
    Column("at", _TIME, nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("data", JSON, nullable=False),
    Index("tuner_events_by_study", "study_id", "id"),
    sqlite_autoincrement=True,
)

calibrations = Table(
    "tuner_calibrations",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("requested_at", _TIME, nullable=False),
    Column("finished_at", _TIME),
    Column("timings", JSON(none_as_null=True)),
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
    Column("build", JSON(none_as_null=True)),  # where it was trained, once it has told an epoch
    # Of an outside worker: who it is, how often it was heard, and what the pruner made of the last value it measured.
    Column("client_id", String(100)),
    Column("renewals", Integer, nullable=False, default=0, server_default="0"),
    Column("judged_step", Integer),
    Column("should_stop", Boolean, nullable=False, default=False, server_default=false()),
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
    Column("job_id", Integer, ForeignKey("tuner_jobs.id"), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("contender", Text, nullable=False),
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
    UniqueConstraint("study_id", "job_id", "stage", "contender", "seed", name="tuner_runs_once"),
    sqlite_autoincrement=True,
)

models = Table(
    "tuner_models",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id"), nullable=False, index=True),
    Column("job_id", Integer, ForeignKey("tuner_jobs.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("contender", Text, nullable=False),
    Column("hyperparameters", JSON, nullable=False),
    Column("parameters", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("promoted", Boolean, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("files_removed_at", _TIME),
    UniqueConstraint("study_id", "job_id", "contender", name="tuner_models_once"),
    Index("tuner_models_by_time", "created_at", "id"),
)

verdicts = Table(
    "tuner_verdicts",
    metadata,
    Column("job_id", Integer, ForeignKey("tuner_jobs.id"), primary_key=True, autoincrement=False),
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id"), nullable=False, index=True),
    Column("verdict", JSON, nullable=False),
    Column("recorded_at", _TIME, nullable=False),
)

test_ledger = Table(
    "tuner_test_ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", String(100), nullable=False),
    Column("dataset_checksum", String(64), nullable=False, index=True),
    Column("study_id", Integer, ForeignKey("tuner_studies.study_id")),  # null: purged; its opening counts for ever
    Column("study_name", String(512), nullable=False),
    Column("models", JSON, nullable=False),
    Column("opened_at", _TIME, nullable=False),
    Column("reading", JSON),
    # An operator had a study that had opened it before open it for other models, too.
    Column("forced", Boolean, nullable=False, default=False, server_default=false()),
    Column("job_id", Integer),
    Column("opened_by", String(200)),  # who asked for the job
    Index(
        "tuner_test_ledger_unforced",
        "study_id",
        unique=True,
        sqlite_where=text("NOT forced"),
        postgresql_where=text("NOT forced"),
    ),
)

schedules = Table(
    "tuner_schedules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("spec", JSON, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("next_fire_time", _TIME, index=True),
    Column("created_at", _TIME, nullable=False),
    sqlite_autoincrement=True,
)

schedule_runs = Table(
    "tuner_schedule_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schedule_id", Integer, ForeignKey("tuner_schedules.id"), nullable=False),
    Column("fire_time", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text),
    Column("job_id", Integer, index=True),
    Column("study_id", Integer),
    Column("study", String(512)),
    UniqueConstraint("schedule_id", "fire_time", name="tuner_schedule_runs_once"),
    Index("tuner_schedule_runs_by_schedule", "schedule_id", "id"),
    sqlite_autoincrement=True,
)

champions = Table(
    "tuner_champions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schedule_id", Integer, ForeignKey("tuner_schedules.id"), nullable=False, index=True),
    Column("model_id", String(32), nullable=False),
    Column("study_id", Integer, nullable=False),
    Column("job_id", Integer, nullable=False),
    Column("verdict", String(16), nullable=False),  # first, replaced, kept
    Column("comparison", JSON(none_as_null=True)),
    Column("decided_at", _TIME, nullable=False),
    UniqueConstraint("schedule_id", "job_id", name="tuner_champions_once"),
)

deliveries = Table(
    "tuner_deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("job_id", Integer, nullable=False),
    Column("url", Text, nullable=False),
    Column("event", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", _TIME, index=True),  # null: it arrived, or was given up
    Column("delivered_at", _TIME),
    Column("last_error", Text),
    Column("created_at", _TIME, nullable=False),
)

tokens = Table(
    "tuner_tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("role", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("created_at", _TIME, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("expires_at", _TIME),
    Column("revoked_at", _TIME),
    Column("last_used_at", _TIME),
    # A name is free again when its token is revoked.
    Index(
        "tuner_tokens_live",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
    sqlite_autoincrement=True,
)

sessions = Table(
    "tuner_sessions",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of the cookie
    Column("token_sha256", String(64), nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False, index=True),
)

audit = Table(
    "tuner_audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", _TIME, nullable=False, index=True),
    Column("who", String(200), nullable=False, index=True),
    Column("method", String(8), nullable=False),
    Column("path", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("location", Text),
    Column("request_id", String(64), nullable=False),
    sqlite_autoincrement=True,
)

idempotency_keys = Table(
    "tuner_idempotency_keys",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of who asks for what, and the key
    Column("request_sha256", String(64), nullable=False),
    Column("created_at", _TIME, nullable=False, index=True),
    Column("status", Integer),  # null within the transaction that claims the key, and never outside it
    Column("headers", JSON(none_as_null=True)),
    Column("body", LargeBinary),
)
