"""Verdicts of promotions; test sets that are opened again by force."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "tuner_verdicts",
        sa.Column("job_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.JSON(), nullable=False),
        sa.Column("recorded_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["tuner_jobs.id"]),
        sa.ForeignKeyConstraint(["study_id"], ["tuner_studies.study_id"]),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("ix_tuner_verdicts_study_id", "tuner_verdicts", ["study_id"])
    op.add_column("tuner_test_ledger", sa.Column("forced", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("tuner_test_ledger", sa.Column("job_id", sa.Integer(), nullable=True))
    op.add_column("tuner_test_ledger", sa.Column("opened_by", sa.String(length=200), nullable=True))
    # 0001 gave its constraint no name; PostgreSQL then makes one of table and columns, SQLite has none.
    naming = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}
    with op.batch_alter_table("tuner_test_ledger", naming_convention=naming) as batch:
        batch.drop_constraint("tuner_test_ledger_study_id_key", type_="unique")
    unforced = sa.text("NOT forced")
    op.create_index(
        "tuner_test_ledger_unforced",
        "tuner_test_ledger",
        ["study_id"],
        unique=True,
        sqlite_where=unforced,
        postgresql_where=unforced,
    )
