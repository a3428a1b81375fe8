"""Studies that were posted before there was batch normalisation do not have it in their spaces."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    studies = sa.table("tuner_studies", sa.column("study_id"), sa.column("spec", sa.JSON))
    connection = op.get_bind()
    for study_id, spec in connection.execute(sa.select(studies.c.study_id, studies.c.spec)).all():
        if spec.get("objective") == "external":
            continue
        space = {"batch_norm": False, **spec["search_space"]}
        changed = studies.update().where(studies.c.study_id == study_id).values(spec={**spec, "search_space": space})
        connection.execute(changed)
