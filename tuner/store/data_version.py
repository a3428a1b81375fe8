"""Whether anything in the database was changed since: for who would otherwise read the same again."""

import threading

from sqlalchemy import Engine, PoolProxiedConnection, text

from tuner.errors import Unavailable
from tuner.store.database import reading, reporting_outages


class DataVersion:
    """Of one database, until it is closed. Equal answers mean that nothing was committed between them, by anybody."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.waits = engine.dialect.name != "sqlite"
        """Whether a server must be asked; SQLite's answer lies in memory that its processes share."""
        self._connection: PoolProxiedConnection | None = None
        self._lock = threading.Lock()

    def read(self) -> str | None:
        """None where it cannot be told now."""
        try:
            return self._snapshot() if self.waits else self._counter()
        except Unavailable:
            return None

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _snapshot(self) -> str:
        """Which transactions PostgreSQL shows: one that writes has a number, and changes this list when it is committed.
        So do those of the server's other databases and of autovacuum, after which the same is read once more."""
        with reading(self._engine) as connection:
            return str(connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one())

    def _counter(self) -> str:
        """SQLite's number of commits by other connections than this one, which makes none, and is in no transaction."""
        with self._lock, reporting_outages():
            if self._connection is None:
                self._connection = self._connect()
            cursor = self._connection.cursor()
            cursor.execute("PRAGMA data_version")
            [(commits,)] = cursor.fetchall()
            return str(commits)

    def _connect(self) -> PoolProxiedConnection:
        connection = self._engine.raw_connection()
        connection.detach()  # its place in the pool is for those who read
        connection.cursor().execute("PRAGMA busy_timeout=0")  # what cannot be told at once is not worth a wait
        return connection
