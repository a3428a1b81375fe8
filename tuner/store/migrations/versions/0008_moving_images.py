"""Studies that were posted before images could be turned and scaled have neither in their spaces."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    studies = sa.table("tuner_studies", sa.column("study_id"), sa.column("spec", sa.JSON))
    connection = op.get_bind()
    for study_id, spec in connection.execute(sa.select(studies.c.study_id, studies.c.spec)).all():
        if spec.get("objective") == "external":
            continue
        space = {"rotate_degrees": 0.0, "zoom": 0.0, **spec["search_space"]}
        changed = studies.update().where(studies.c.study_id == study_id).values(spec={**spec, "search_space": space})
        connection.execute(changed)
