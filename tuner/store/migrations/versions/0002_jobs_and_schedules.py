"""Jobs that can be queued, retried and continued; events, schedules, champions, webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_FIRST_JOB = "(SELECT MIN(id) FROM tuner_jobs WHERE tuner_jobs.study_id = {table}.study_id)"


def upgrade() -> None:
    op.add_column("tuner_studies", sa.Column("revision", sa.Integer(), server_default="0", nullable=False))
    op.add_column("tuner_jobs", sa.Column("work", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("tuner_jobs", sa.Column("after_job_id", sa.Integer(), nullable=True))
    op.add_column("tuner_jobs", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column("tuner_jobs", sa.Column("stalled", sa.Integer(), server_default="0", nullable=False))
    op.add_column("tuner_jobs", sa.Column("failed_before", sa.Integer(), server_default="0", nullable=False))
    _rename_outcomes({"queued": "runner_ended", "succeeded": "runner_ended", "interrupted": "runner_lost"})
    op.add_column("tuner_attempts", sa.Column("build", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("tuner_attempts", sa.Column("client_id", sa.String(length=100), nullable=True))
    op.add_column("tuner_attempts", sa.Column("renewals", sa.Integer(), server_default="0", nullable=False))
    op.add_column("tuner_attempts", sa.Column("judged_step", sa.Integer(), nullable=True))
    op.add_column("tuner_attempts", sa.Column("should_stop", sa.Boolean(), server_default=sa.false(), nullable=False))
    # A run's id names its files, and with the runs of a purged study it must not go to another run.
    ids = {"sqlite_autoincrement": True}
    _own_by_job("tuner_runs", ["study_id", "stage", "contender", "seed"], "tuner_runs_once", ids)
    _own_by_job("tuner_models", ["study_id", "contender"], "tuner_models_once")
    op.add_column("tuner_models", sa.Column("files_removed_at", sa.String(length=32), nullable=True))
    _outlive_studies()
    _index_lists()
    _create_events()
    _create_schedules()
    _create_deliveries()


def _rename_outcomes(names: dict[str, str]) -> None:
    for earlier, name in names.items():
        op.execute(f"UPDATE tuner_attempts SET outcome = '{name}' WHERE outcome = '{earlier}'")


def _own_by_job(table: str, unique: list[str], name: str, ids: dict[str, bool] | None = None) -> None:
    """What a study had once, each of its jobs can have from now on; what is there belongs to the study's first job."""
    op.add_column(table, sa.Column("job_id", sa.Integer(), nullable=True))
    op.execute(f"UPDATE {table} SET job_id = {_FIRST_JOB.format(table=table)}")
    # 0001 gave its constraint no name; PostgreSQL then makes one of table and columns, SQLite has none.
    naming = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}
    with op.batch_alter_table(table, naming_convention=naming, table_kwargs=ids or {}) as batch:
        batch.drop_constraint(f"{table}_{'_'.join(unique)}_key", type_="unique")
        batch.alter_column("job_id", existing_type=sa.Integer(), nullable=False)
        batch.create_foreign_key(f"{table}_job_id_fkey", "tuner_jobs", ["job_id"], ["id"])
        batch.create_unique_constraint(name, [unique[0], "job_id", *unique[1:]])


def _outlive_studies() -> None:
    """An opening of a sealed test set stays in the ledger when its study is purged."""
    with op.batch_alter_table("tuner_test_ledger") as batch:
        batch.alter_column("study_id", existing_type=sa.Integer(), nullable=True)


def _index_lists() -> None:
    """The lists stay quick beside many jobs: by state, and each study with the job it is at."""
    op.create_index("tuner_jobs_by_state_and_study", "tuner_jobs", ["state", "study_id"])
    op.create_index("tuner_jobs_by_study", "tuner_jobs", ["study_id", "state", "id"])
    op.drop_index("ix_tuner_jobs_study_id", "tuner_jobs")
    op.create_index("tuner_models_by_time", "tuner_models", ["created_at", "id"])


def _create_events() -> None:
    op.create_table(
        "tuner_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tuner_events_job_id", "tuner_events", ["job_id"])
    op.create_index("ix_tuner_events_at", "tuner_events", ["at"])
    op.create_index("tuner_events_by_study", "tuner_events", ["study_id", "id"])


def _create_schedules() -> None:
    op.create_table(
        "tuner_schedules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_fire_time", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tuner_schedules_next_fire_time", "tuner_schedules", ["next_fire_time"])
    op.create_table(
        "tuner_schedule_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("schedule_id", sa.Integer(), nullable=False),
        sa.Column("fire_time", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("study", sa.String(length=512), nullable=True),
        sa.ForeignKeyConstraint(["schedule_id"], ["tuner_schedules.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("schedule_id", "fire_time", name="tuner_schedule_runs_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tuner_schedule_runs_job_id", "tuner_schedule_runs", ["job_id"])
    op.create_index("tuner_schedule_runs_by_schedule", "tuner_schedule_runs", ["schedule_id", "id"])
    op.create_table(
        "tuner_champions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("schedule_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("comparison", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("decided_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["schedule_id"], ["tuner_schedules.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("schedule_id", "job_id", name="tuner_champions_once"),
    )
    op.create_index("ix_tuner_champions_schedule_id", "tuner_champions", ["schedule_id"])


def _create_deliveries() -> None:
    op.create_table(
        "tuner_deliveries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.String(length=32), nullable=True),
        sa.Column("delivered_at", sa.String(length=32), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_tuner_deliveries_next_attempt_at", "tuner_deliveries", ["next_attempt_at"])
    op.create_index("ix_tuner_deliveries_study_id", "tuner_deliveries", ["study_id"])
