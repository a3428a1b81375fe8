"""The revision of a study: raised by whoever but its job changes its trials.

Whoever does so, or queues work on the study, locks it first; the study's job looks at it, under the same lock, before it starts a
trial, so no two of them take one number. A transaction that also changes a row of `tuner_jobs` does that before, as the job does:
in the other order the two could wait for one another.
"""

from sqlalchemy import Connection, bindparam, select, update

from tuner.store.tables import studies

_REVISION = select(studies.c.revision).where(studies.c.study_id == bindparam("study"))
_LOCKED = _REVISION.with_for_update(key_share=True)


def lock(connection: Connection, study_id: int) -> int:
    """The revision; until this write transaction ends, nobody else raises it. SQLite locks the whole file anyway."""
    return int(connection.execute(_LOCKED, {"study": study_id}).scalar_one())


def read(connection: Connection, study_id: int) -> int:
    """0 for a foreign study."""
    return int(connection.execute(_REVISION, {"study": study_id}).scalar_one_or_none() or 0)


def raise_revision(connection: Connection, study_id: int) -> None:
    """The study's job reads its trials again before it starts another."""
    ours = update(studies).where(studies.c.study_id == study_id)
    connection.execute(ours.values(revision=studies.c.revision + 1))
