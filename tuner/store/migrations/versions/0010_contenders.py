"""A contender's name tells what the local search has changed, and is as long as that takes."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    for table, options in {"tuner_runs": {"sqlite_autoincrement": True}, "tuner_models": {}}.items():
        with op.batch_alter_table(table, table_kwargs=options) as batch:
            batch.alter_column("contender", existing_type=sa.String(16), type_=sa.Text(), existing_nullable=False)
