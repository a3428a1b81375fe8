"""Backup and restore of a whole installation: database, uploaded data sets, models.

The database comes first, as it stands at one moment; then, by hard link, the files that its rows name. A file is written before
its row and never changed after, so a row has its files, unless they were removed in the moment between; then all begins anew.
Whatever the service writes while the archive is packed is not in it, and what it removes is.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Table, func, make_url, select, text

from tuner.errors import Conflict, Unavailable
from tuner.settings import Settings
from tuner.store import snapshot, trials
from tuner.store.archive import DATABASES, Archive, Contents, Manifest, check_free, write_archive
from tuner.store.checkpoints import checkpoint_path
from tuner.store.database import VERSION_TABLE, migrate, open_database, schema_revisions
from tuner.store.runs import RunState
from tuner.store.tables import jobs, models, runs

ATTEMPTS = 3
"""Only a file that was removed just now makes a second one needed; what is missing in the last one was missing before."""

PACKAGED = "mnist"
"""Comes with the package, and is installed when it is first asked for."""

LOCKS = ("serve.lock", "serve.owner", "runner.lock", "backup.lock")
"""What an empty data folder may hold."""


def back_up(settings: Settings, target: Path) -> Manifest:
    """Write the archive `target`, also while a service works on the installation.

    Raises Conflict where something is there or another backup is being made, Unavailable where it cannot be done.
    """
    check_free(target)
    engine = open_database(settings.database_url)
    kind = engine.dialect.name
    try:
        with _workplace(settings) as links, _temporary_beside(target) as folder:
            file = folder / DATABASES[kind]
            for attempt in range(1, ATTEMPTS + 1):
                with snapshot.take(engine, file) as connection:
                    _check_schema(connection)
                    files, missing = _link_models(connection, settings.models_dir, links / f"{attempt}")
                    contents = _describe(connection, kind, missing)
                if not missing:
                    break
            files |= _link_datasets(settings.datasets_dir, links / "datasets")
            return write_archive(target, contents, {file.name: file, **files})
    finally:
        engine.dispose()


def restore(settings: Settings, archive: Archive) -> None:
    """The empty data folder and the empty database hold what the archive holds, brought up to this version's schema. Its running
    jobs go on, once a runner takes them.

    Raises Conflict where something is in the way, before anything is touched, and Unavailable where it cannot be done.
    """
    _check_fits(settings, archive.manifest)
    _check_empty(settings)
    try:
        _extract(settings, archive)
    except Exception:
        for folder in (settings.models_dir, settings.datasets_dir):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    engine = open_database(settings.database_url)
    try:
        migrate(engine)
    finally:
        engine.dispose()


@contextmanager
def _workplace(settings: Settings) -> Iterator[Path]:
    """An empty folder on the models' disk, for one backup at a time."""
    folder = settings.data_dir / ".backup"
    try:
        with FileLock(settings.data_dir / "backup.lock", blocking=False):
            shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        raise Conflict(f"one backup at a time: another one is being made of {settings.data_dir}") from None
    except OSError as error:
        raise Unavailable(f"the data folder must be writable: {error}") from error


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """A folder where there must be room for the archive anyway."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tuner-backup-") as folder:
            yield Path(folder)
    except OSError as error:
        raise Unavailable(f"{target.parent} must be writable: {error}") from error


def _link_models(connection: Connection, models_dir: Path, links: Path) -> tuple[dict[str, Path], list[str]]:
    """Links to the files of models and runs, by their names in the archive; and what was not there."""
    files: dict[str, Path] = {}
    missing = []
    kept = connection.execute(select(models.c.id).where(models.c.files_removed_at.is_(None))).scalars()
    weights = connection.execute(select(runs.c.weights).where(runs.c.weights.is_not(None))).scalars()
    for name in (*kept, *weights):
        try:
            files |= _link_folder(models_dir / name, links / name, f"models/{name}")
        except FileNotFoundError:
            missing.append(name)
    under_way = connection.execute(select(runs.c.id).where(runs.c.state == RunState.RUNNING)).scalars()
    for path in [checkpoint_path(models_dir, run_id) for run_id in under_way]:
        with suppress(FileNotFoundError):  # none was written yet, or the run has ended meanwhile and is trained again
            _link(path, links / path.name)
            files[f"models/{path.name}"] = links / path.name
    return files, missing


def _link_datasets(datasets_dir: Path, links: Path) -> dict[str, Path]:
    """Those that were uploaded; one that is removed just now was removed."""
    files: dict[str, Path] = {}
    for description in datasets_dir.glob("*/dataset.json"):
        name = description.parent.name
        if name != PACKAGED and not name.startswith("."):
            with suppress(FileNotFoundError):
                files |= _link_folder(description.parent, links / name, f"datasets/{name}")
    return files


def _link_folder(folder: Path, links: Path, name: str) -> dict[str, Path]:
    """Raises FileNotFoundError where the folder is not there, or goes meanwhile."""
    files = {f"{name}/{path.name}": links / path.name for path in sorted(folder.iterdir())}
    for link in files.values():
        _link(folder / link.name, link)
    return files


def _link(path: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, link)
    except FileNotFoundError:
        raise
    except OSError:  # a disk that knows no hard links
        shutil.copyfile(path, link)


def _describe(connection: Connection, kind: str, missing: list[str]) -> Contents:
    def count(table: Table) -> int:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    tables = {"studies": trials.STUDIES, "trials": trials.TRIALS, "jobs": jobs, "models": models}
    counts = {name: count(table) for name, table in tables.items()}
    return Contents.model_validate(
        {"database": kind, "revision": schema_revisions()[0], "counts": counts, "missing": missing}
    )


def _check_schema(connection: Connection) -> None:
    found, ours = (
        connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one(),
        schema_revisions()[0],
    )
    if found != ours:
        rule = f"a backup is made by the version of tuner whose schema the database has; this one's is {ours}"
        raise Conflict(f"{rule}, but the database's is {found}; this version's `tuner serve` brings an earlier one up")


def _check_fits(settings: Settings, manifest: Manifest) -> None:
    kind = make_url(settings.database_url).get_backend_name()
    if manifest.database != kind:
        rule = f"a backup of {manifest.database} is restored into {manifest.database}"
        raise Conflict(f"{rule}, but TUNER_DATABASE_URL is of {kind}")
    if manifest.revision not in schema_revisions():
        rule = "a backup must be of this version of tuner or an earlier one"
        raise Conflict(f"{rule}, but its schema is {manifest.revision}, of tuner {manifest.tuner_version}")


def _check_empty(settings: Settings) -> None:
    folder = settings.data_dir
    there = sorted(path.name for path in folder.iterdir() if path.name not in LOCKS) if folder.exists() else []
    if there:
        raise Conflict(f"a backup is restored into an empty data folder only, but {folder} holds {', '.join(there)}")
    snapshot.check_empty(settings.database_url)


def _extract(settings: Settings, archive: Archive) -> None:
    """The database last: what has none was not restored."""
    database = DATABASES[archive.manifest.database]
    for name in archive.manifest.files:
        if name != database:
            archive.extract(name, settings.data_dir / name)
    beside = make_url(settings.database_url).database if settings.on_sqlite else None
    with _temporary_beside(Path(beside or settings.data_dir / database)) as folder:
        archive.extract(database, folder / database)
        snapshot.load(settings.database_url, folder / database)
