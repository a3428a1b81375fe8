"""The data set of a study, and its checksum when the study was posted."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

MNIST = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
"""There was no other data set."""


def upgrade() -> None:
    with op.batch_alter_table("tuner_studies") as batch_op:
        batch_op.add_column(sa.Column("dataset", sa.String(length=100), nullable=True))
        batch_op.add_column(sa.Column("dataset_checksum", sa.String(length=64), nullable=True))
        batch_op.create_index("ix_tuner_studies_dataset", ["dataset"])
    studies = sa.table("tuner_studies", sa.column("spec", sa.JSON), sa.column("dataset"), sa.column("dataset_checksum"))
    op.execute(studies.update().values(dataset=studies.c.spec["dataset"].as_string()))
    op.execute(studies.update().where(studies.c.dataset == "mnist").values(dataset_checksum=MNIST))
