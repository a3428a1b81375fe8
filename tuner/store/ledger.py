"""The ledger of the sealed test sets: who opened which one, when, for which frozen list of models.

An opening is written and committed before the images are read, and its reading is added afterwards. The list is frozen: asked
again for the same models (a restart between opening and reading), the same opening answers; asked for others, it is refused.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from tuner.errors import TestSetSealed
from tuner.store.clock import now
from tuner.store.tables import test_ledger


@dataclass(frozen=True)
class Opening:
    """`models` are the SHA-256 hashes of the weights, sorted; `reading` is None until the images were scored."""

    id: int
    reading: dict[str, Any] | None


def record_opening(
    connection: Connection, study_id: int, study_name: str, dataset: str, checksum: str, models: list[str]
) -> Opening:
    """Raises TestSetSealed where this study has opened the test set for other models before."""
    frozen = sorted(models)
    row = connection.execute(select(test_ledger).where(test_ledger.c.study_id == study_id)).one_or_none()
    if row is not None:
        if row.models != frozen:
            raise TestSetSealed(
                f"one opening per study: {study_name!r} opened the test set of {dataset!r} at {row.opened_at} for "
                f"{len(row.models)} other models"
            )
        return Opening(row.id, row.reading)
    values = {
        "dataset": dataset,
        "dataset_checksum": checksum,
        "study_id": study_id,
        "study_name": study_name,
        "models": frozen,
        "opened_at": now(),
    }
    return Opening(int(connection.execute(insert(test_ledger).values(values)).inserted_primary_key[0]), None)  # type: ignore[index]


def record_reading(connection: Connection, opening_id: int, reading: dict[str, Any]) -> None:
    connection.execute(update(test_ledger).where(test_ledger.c.id == opening_id).values(reading=reading))


def count_openings(connection: Connection, checksum: str) -> int:
    """How often the test set with this checksum was opened, by all studies."""
    query = select(func.count()).where(test_ledger.c.dataset_checksum == checksum)
    return int(connection.execute(query).scalar_one())
