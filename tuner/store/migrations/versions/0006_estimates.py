"""Timed epochs of each machine, and what each study was expected to take."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "tuner_calibrations",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("requested_at", sa.String(length=32), nullable=False),
        sa.Column("finished_at", sa.String(length=32), nullable=True),
        sa.Column("timings", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("host"),
    )
    op.add_column("tuner_studies", sa.Column("estimate", sa.JSON(), nullable=True))
