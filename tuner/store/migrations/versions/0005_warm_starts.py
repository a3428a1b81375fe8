"""What earlier studies tell the sampler of a later one."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "tuner_warm_trials",
        sa.Column("study_id", sa.Integer(), sa.ForeignKey("tuner_studies.study_id"), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trial", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "position"),
    )
