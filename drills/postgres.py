"""A private PostgreSQL server, which a drill may stop and start."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from drills.finding import Missing
from drills.service import free_port
from drills.site import Site


class PostgresServer:
    """It is up when it is made; `close` leaves nothing of it. The superuser is `tuner`."""

    def __init__(self) -> None:
        programs = [shutil.which("pg_ctl"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")))]
        found = next((program for program in programs if program), None)
        if found is None:
            raise Missing("postgres", "PostgreSQL's programs are not installed")
        self._pg_ctl = Path(found).resolve()
        self._home, self._port = Path(tempfile.mkdtemp(prefix="drill-postgres-")), free_port()
        # PostgreSQL refuses to run as root; its package has made a user for it.
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as_user:
            shutil.chown(self._home, "postgres")
        folder = f"{self._home}/data"
        initdb = str(self._pg_ctl.with_name("initdb"))
        self._run(initdb, "-D", folder, "-U", "tuner", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://tuner@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self._port} -c unix_socket_directories= -c fsync=off"
        self._ctl("-l", f"{self._home}/log", "-o", options, "-w", "start")

    def stop(self) -> None:
        """At once: open transactions and connections are cut, and the next start recovers from the log."""
        self._ctl("-m", "immediate", "stop")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._home)

    def _ctl(self, *arguments: str) -> None:
        self._run(str(self._pg_ctl), "-D", f"{self._home}/data", *arguments)

    def _run(self, *command: str) -> None:
        subprocess.run(
            [*self._as_user, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._home
        )


def use_postgres(site: Site) -> PostgresServer:
    """The site's services work on a server of their own from now on. Raises Missing where there is none."""
    server = PostgresServer()
    site.closing.callback(server.close)
    site.database_url = server.url
    return server
