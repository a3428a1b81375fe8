"""An installation is saved while it works, and goes on elsewhere; a damaged archive touches nothing."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from sqlalchemy import Engine, MetaData, make_url, select, update

from tests.conftest import Terminal, connect, make_sqlite, running, wait_until
from tests.postgres_server import postgres_database
from tests.serving import small_nets
from tests.test_migrations import differences
from tests.test_retention import Stored
from tuner.data.catalogue import describe, open_dataset
from tuner.data.installation import PARTS, install
from tuner.errors import Conflict, DamagedData
from tuner.settings import Settings
from tuner.store import backup, snapshot
from tuner.store.archive import DATABASES, MANIFEST, Contents, Manifest, Member, open_archive, write_archive
from tuner.store.database import migrate, open_database, reading, writing
from tuner.store.model_files import remove_weights
from tuner.store.tables import models, runs

Rows = dict[str, list[Any]]


def restore(settings: Settings, file: Path) -> Manifest:
    with open_archive(file) as archive:
        backup.restore(settings, archive)
        return archive.manifest


def all_rows(url: str) -> Rows:
    """Of every table, Optuna's and ours."""
    engine, there = open_database(url), MetaData()
    there.reflect(engine)
    with reading(engine) as connection:
        rows = {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in there.sorted_tables}
    engine.dispose()
    return rows


@pytest.fixture
def installation(database_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "one", database_url=database_url, parallel=1)


@pytest.fixture
def elsewhere(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings of an installation that is not there yet, on a database of the same kind."""
    folder = tmp_path / "two"
    if database_url.startswith("sqlite"):
        yield Settings(data_dir=folder, parallel=1)
        return
    with postgres_database(request.getfixturevalue("postgres")) as url:
        yield Settings(data_dir=folder, database_url=url, parallel=1)


def test_a_study_goes_on_where_its_backup_was(settings: Settings, tmp_path: Path) -> None:
    """A backup in the middle of a running study, restored into another folder: each trial that had ended is there as it was, and
    the study reaches its total."""
    with connect(settings) as api, running(settings):
        assert api.post("/v1/studies", json=small_nets("s", 10)).status_code == 202
        wait_until(lambda: api.get("/v1/studies/s").json()["trials"]["complete"] >= 3, "some trials have ended")
        manifest = backup.back_up(settings, tmp_path / "b.tar")
    copy = Settings(data_dir=tmp_path / "copy", parallel=2)
    assert restore(copy, tmp_path / "b.tar") == manifest
    with connect(copy) as api:
        status = api.get("/v1/studies/s").json()
        saved = api.get("/v1/studies/s/trials?state=COMPLETE").json()["items"]
        assert (status["state"], len(saved) >= 3, status["trials"]["total"] < 10) == ("running", True, True)
        with running(copy):
            wait_until(lambda: api.get("/v1/studies/s").json()["state"] == "succeeded", "the study has ended")
        trials = {trial["number"]: trial for trial in api.get("/v1/studies/s/trials").json()["items"]}
        assert sorted(trials) == list(range(10))
        assert [trials[trial["number"]] for trial in saved] == saved


def test_every_row_and_every_file_comes_back(
    engine: Engine, database_url: str, installation: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    """Both schemas' tables row by row, models, a checkpoint and an uploaded data set byte by byte, while somebody else is in the
    middle of a write; what no row refers to stays away, and so does MNIST, which comes with the package."""
    stored = Stored(engine, installation.models_dir, "a")
    with writing(engine) as connection:
        connection.execute(update(runs).values(state="running"))
    remove_weights(installation.models_dir / "0123456789abcdef")
    (installation.models_dir / "0123456789abcdef").mkdir()
    (installation.models_dir / "0123456789abcdef" / "stray").write_bytes(b"x")
    images, labels = np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2), np.arange(40, dtype=np.uint8) % 4
    for name in ("digits", "mnist"):
        install(name, installation.datasets_dir, dict(zip(PARTS, (images, labels, images, labels), strict=True)))
    before = all_rows(database_url)
    with writing(engine) as connection:
        connection.execute(update(models).values(promoted=False))
        manifest = backup.back_up(installation, tmp_path / "b.tar")
    assert manifest.counts == {"studies": 1, "trials": 3, "jobs": 1, "models": 1}
    assert restore(elsewhere, tmp_path / "b.tar") == manifest
    assert all_rows(elsewhere.database_url) == before
    files = [stored.model / "weights.safetensors", stored.weights / "weights.safetensors", stored.checkpoint]
    for file in files:
        copy = elsewhere.models_dir / file.relative_to(installation.models_dir)
        assert copy.read_bytes() == file.read_bytes()
    assert len([path for path in elsewhere.models_dir.rglob("*") if path.is_file()]) == len(files)
    assert [path.name for path in elsewhere.datasets_dir.iterdir()] == ["digits"]
    digits = open_dataset("digits", elsewhere.datasets_dir)
    assert digits.checksum == describe("digits", installation.datasets_dir).checksum
    assert (tmp_path / "b.tar").stat().st_mode & 0o077 == 0
    assert not (installation.data_dir / ".backup").exists()


def test_a_model_without_its_files_is_told(
    engine: Engine, installation: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    """A backup of a damaged folder holds the rest of it, and says what it does not hold."""
    stored = Stored(engine, installation.models_dir, "a")
    remove_weights(stored.model)
    manifest = backup.back_up(installation, tmp_path / "b.tar")
    assert manifest.missing == (stored.model_id,)
    assert [name for name in manifest.files if name.startswith("models/")] == [
        f"models/{stored.weights.name}/weights.safetensors"
    ]


@pytest.mark.usefixtures("no_tables")
@pytest.mark.parametrize("revision", ["0001"])
def test_a_backup_of_an_earlier_schema_is_brought_up(
    revision: str, database_url: str, installation: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    """What an earlier version has saved is restored into today's schema; a database that was not brought up is not saved."""
    engine = open_database(database_url)
    migrate(engine, revision)
    installation.data_dir.mkdir()
    with pytest.raises(Conflict, match=f"the database's is {revision}"):
        backup.back_up(installation, tmp_path / "b.tar")
    kind = engine.dialect.name
    with snapshot.take(engine, tmp_path / "database"):
        pass
    contents = Contents.model_validate({"database": kind, "revision": revision, "counts": {}, "missing": []})
    write_archive(tmp_path / "b.tar", contents, {DATABASES[kind]: tmp_path / "database"})
    engine.dispose()
    restore(elsewhere, tmp_path / "b.tar")
    restored = open_database(elsewhere.database_url)
    assert differences(restored) == []
    restored.dispose()


def test_what_is_there_is_not_touched(
    engine: Engine, database_url: str, installation: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    """A backup replaces no file, and two are not made at once; it is restored neither over an installation, nor into another kind
    of database, nor into an earlier version."""
    Stored(engine, installation.models_dir, "a")
    file = tmp_path / "b.tar"
    with FileLock(installation.data_dir / "backup.lock"), pytest.raises(Conflict, match="one backup at a time"):
        backup.back_up(installation, file)
    backup.back_up(installation, file)
    before = file.read_bytes()
    with pytest.raises(Conflict, match=r"must not replace a file, but .*b\.tar is there"):
        backup.back_up(installation, file)
    assert file.read_bytes() == before
    with pytest.raises(Conflict, match=r"into an empty data folder only, but .* holds models"):
        restore(installation, file)
    in_the_way = Settings(data_dir=tmp_path / "three", database_url=database_url, parallel=1)
    with pytest.raises(Conflict, match="into an empty database only, but"):
        restore(in_the_way, file)
    assert not in_the_way.data_dir.exists()
    kind = make_url(database_url).get_backend_name()
    other = "sqlite:///x.db" if kind == "postgresql" else "postgresql+psycopg://nowhere/x"
    with pytest.raises(Conflict, match=f"a backup of {kind} is restored into {kind}"):
        restore(Settings(data_dir=elsewhere.data_dir, database_url=other, parallel=1), file)
    manifest, entries = unpack(file)
    pack(file, manifest.model_copy(update={"revision": "9999"}), entries)
    with pytest.raises(Conflict, match="its schema is 9999"):
        restore(elsewhere, file)
    assert not elsewhere.data_dir.exists()


Entries = list[tuple[str, bytes]]


def unpack(file: Path) -> tuple[Manifest, Entries]:
    with tarfile.open(file) as tar:
        entries = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    return Manifest.model_validate_json(entries[-1][1]), entries[:-1]


def pack(file: Path, manifest: Manifest, entries: Entries, types: dict[str, bytes] | None = None) -> None:
    """An archive with just these entries, whatever the manifest says."""
    with tarfile.open(file, "w") as tar:
        for name, content in [*entries, (MANIFEST, manifest.model_dump_json().encode())]:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), (types or {}).get(name, tarfile.REGTYPE)
            member.linkname = "database.sqlite"
            tar.addfile(member, io.BytesIO(content))


def agreeing(manifest: Manifest, entries: Entries) -> Manifest:
    """With the sums of these entries."""
    files = {n: Member(size=len(content), sha256=hashlib.sha256(content).hexdigest()) for n, content in entries}
    return manifest.model_copy(update={"files": files})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("archive")
    settings = Settings(data_dir=folder / "data", parallel=1)
    make_sqlite(settings.data_dir / "tuner.db")
    engine = open_database(settings.database_url)
    Stored(engine, settings.models_dir, "a")
    engine.dispose()
    backup.back_up(settings, folder / "b.tar")
    return (folder / "b.tar").read_bytes()


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda content: content[:0], "empty file"),
    "something else": (lambda content: b"once upon a time " * (len(content) // 100), "reading says"),
    "cut in the middle": (lambda content: content[: len(content) // 2], "reading says"),
    "cut before the manifest": (
        lambda content: content[: content.rindex(b"manifest.json")],
        "reading says|not manifest.json",
    ),
    "a bit of the database": (lambda content: content.replace(b"SQLite format 3", b"SQLite format 4", 1), "SHA-256"),
    "a bit of the manifest": (
        lambda content: content.replace(b'"format": 1', b'"format": 9', 1),
        "its manifest is not: format",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_refused(archive: bytes, damage: str, tmp_path: Path) -> None:
    """Whatever was lost or changed is noticed before anything is written, by the command too."""
    change, says = DAMAGES[damage]
    changed = change(archive)
    assert changed != archive
    (tmp_path / "b.tar").write_bytes(changed)
    with pytest.raises(DamagedData, match=says):
        restore(Settings(data_dir=tmp_path / "data", parallel=1), tmp_path / "b.tar")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/tmp/evil",
        "models/../../evil",
        "models/a/../b",
        "models/.hidden/a",
        "datasets/a/b/c",
        "tuner.db",
        "models",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(archive: bytes, name: str, tmp_path: Path) -> None:
    """Even where its sum is right."""
    file = tmp_path / "b.tar"
    file.write_bytes(archive)
    manifest, entries = unpack(file)
    entries.append((name, b"evil"))
    pack(file, agreeing(manifest, entries), entries)
    with pytest.raises(DamagedData, match="is no file of a data folder"):
        restore(Settings(data_dir=tmp_path / "data", parallel=1), file)
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_an_archive_holds_plain_files_each_once(archive: bytes, tmp_path: Path) -> None:
    """A link, a device, a second file of one name, one that the manifest does not name, one that is not there: all refused."""
    file = tmp_path / "b.tar"
    file.write_bytes(archive)
    manifest, entries = unpack(file)
    settings = Settings(data_dir=tmp_path / "data", parallel=1)
    link = [*entries, ("models/link/weights.safetensors", b"")]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
        pack(file, agreeing(manifest, link), link, {"models/link/weights.safetensors": kind})
        with pytest.raises(DamagedData, match="is no file of a data folder"):
            restore(settings, file)
    for wrong in ([*entries, entries[-1]], [*entries, ("models/more", b"")], entries[:-1]):
        pack(file, manifest, wrong)
        with pytest.raises(DamagedData, match="its files are not those of its manifest"):
            restore(settings, file)
    pack(file, agreeing(manifest, entries[1:]), entries[1:])
    with pytest.raises(DamagedData, match=r"must hold one database\.sqlite, but holds \[\]"):
        restore(settings, file)
    assert not settings.data_dir.exists()


def test_in_the_terminal(archive: bytes, tmp_path: Path, terminal: Terminal) -> None:
    """`tuner restore` and `tuner backup` say what they did and refuse in one line; neither works from afar."""
    data, file = str(tmp_path / "data"), tmp_path / "b.tar"
    file.write_bytes(archive)
    restored = terminal("restore", str(file), TUNER_DATA_DIR=data)
    assert restored.returncode == 0, restored.stderr
    assert "1 studies, 3 trials, 1 jobs, 1 models, as of 20" in restored.stdout
    again = terminal("restore", str(file), TUNER_DATA_DIR=data)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "empty data folder only, but" in again.stderr
    saved = terminal("backup", str(tmp_path / "c.tar"), TUNER_DATA_DIR=data)
    assert saved.returncode == 0, saved.stderr
    assert f"{tmp_path / 'c.tar'}: 1 studies, 3 trials, 1 jobs, 1 models, " in saved.stdout
    afar = terminal("backup", str(tmp_path / "d.tar"), TUNER_DATA_DIR=data, TUNER_URL="http://nowhere.example")
    assert afar.returncode == 1
    assert "on the machine that has it, but TUNER_URL names a service" in afar.stderr
