"""What a study takes of the disk on SQLite, what housekeeping takes away again, and how long it holds the write lock.

    pip install -e '.[dev]' -c constraints.txt
    python -m benchmarks.disk

A trial has 9 parameters, 5 epochs and 3 attributes, and is trained in no time. The study is written, its epochs' events are
forgotten, it is deleted and purged, and the file gives its pages back.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from benchmarks.bookkeeping import Bookkeeping
from tuner.settings import Settings
from tuner.store import studies
from tuner.store.database import migrate, open_database, reading, writing
from tuner.store.purge import purge_study
from tuner.store.retention import keep_house


@dataclass
class Taken:
    """Of many steps: how many, seconds in all, and of the longest."""

    steps: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    @classmethod
    def by(cls, steps: Iterable[None]) -> "Taken":
        taken, began = cls(), time.perf_counter()
        for _ in steps:
            now = time.perf_counter()
            taken.steps += 1
            taken.seconds, taken.longest = taken.seconds + now - began, max(taken.longest, now - began)
            began = now
        return taken

    def __str__(self) -> str:
        return f"{self.steps} steps, {self.seconds:.2f} s, the longest {1000 * self.longest:.0f} ms"


def file_bytes(engine: Engine) -> int:
    """Of the file, with everything that was written in it."""
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(str(engine.url.database)).stat().st_size


def bytes_by_table(engine: Engine) -> dict[str, int]:
    """With their indexes, the largest first."""
    query = "SELECT m.tbl_name, SUM(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY 1 ORDER BY 2 DESC"
    with reading(engine) as connection:
        return {str(name): int(size) for name, size in connection.exec_driver_sql(query)}


def measure(engine: Engine, folder: Path, trials: int) -> None:
    empty = file_bytes(engine)
    study = Bookkeeping(engine, "study", trials)
    for _ in range(trials):
        study.trial(reports_apart=False)
    study.end()
    full = file_bytes(engine)
    print(f"{'empty database':<34}{empty:>12,} bytes")
    print(
        f"{f'study of {trials:,} trials':<34}{full - empty:>12,} bytes, {(full - empty) / trials:,.0f} a trial; of them"
    )
    for table, size in list(bytes_by_table(engine).items())[:6]:
        print(f"  {table:<32}{size / trials:>12,.0f}")

    settings = Settings(data_dir=folder, keep_deleted_days=1000)
    taken = Taken.by(keep_house(engine, settings, datetime.now(UTC) + timedelta(days=2)))
    left = file_bytes(engine)
    print(f"{'two days later':<34}{left - empty:>12,} bytes, {(left - empty) / trials:,.0f} a trial ({taken})")
    Bookkeeping(engine, "newer", 1).trial(reports_apart=False)
    with writing(engine) as connection:
        found = studies.find_study(connection, "study")
        assert found is not None
        studies.delete_study(connection, found)
    print(f"{'purged':<34}{Taken.by(purge_study(engine, study.study_id, folder))}")
    taken = Taken.by(keep_house(engine, settings, datetime.now(UTC)))
    print(f"{'its space given back':<34}{file_bytes(engine) - empty:>12,} bytes left ({taken})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        database = open_database(f"sqlite:///{name}/tuner.db")
        migrate(database)
        measure(database, Path(name), arguments.trials)
        database.dispose()
