"""Data sets: listed, uploaded, deleted."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from api import cursors
from api.answers import CountsAnswer, DatasetAnswer, Page
from api.bodies import keeping_uploads
from api.dependencies import Cursor, Limit, Reading, TheChange, TheSettings, Writing
from api.headers import located
from api.problems import described
from api.uploads import Upload, receiving_upload
from tuner.data import catalogue
from tuner.data.catalogue import BUILT_IN
from tuner.data.installation import StoredDataset
from tuner.data.staging import Removal, put, staging, taken
from tuner.data.unpacking import unpack
from tuner.errors import Conflict, InvalidInput
from tuner.settings import Settings
from tuner.specs.study import NAME, Name
from tuner.store import dataset_uses
from tuner.store.clock import now
from tuner.store.dataset_uses import Uses

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

UPLOADS = 2
"""Received and checked at once. Those that wait for their turn are not read yet."""

DatasetName = Annotated[str, Path(description="a data set's name", examples=["mnist"])]

BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["name", "files"],
                "properties": {
                    "name": {"type": "string", "pattern": NAME, "example": "digits"},
                    "files": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 4,
                        "items": {"type": "string", "format": "binary"},
                        "description": "IDX files, gzipped or not, whose names say `train`, or `t10k` or `test`; or one .npz "
                        "with x_train, y_train and, if you like, x_test, y_test",
                    },
                },
            }
        }
    },
}

_name = TypeAdapter[str](Name)


@dataclass(frozen=True)
class Checked:
    """An upload that is a data set, staged in `folder`."""

    name: str
    folder: FilePath


async def _check(request: Request, settings: TheSettings) -> AsyncIterator[Checked]:
    """Before the route begins its transaction, which on SQLite keeps all others from writing."""
    root = settings.datasets_dir
    with keeping_uploads(root):
        stage = staging(root)
        folder = await to_thread.run_sync(stage.__enter__)
    try:
        async with receiving_upload(request, root) as upload:
            name = _free_name(upload, root)
            with keeping_uploads(root):
                (folder / "dataset").mkdir()
                await to_thread.run_sync(unpack, upload.files, folder / "dataset", now())
        yield Checked(name, folder / "dataset")
    finally:
        await to_thread.run_sync(stage.__exit__, None, None, None)


@router.post(
    "",
    status_code=201,
    response_model=DatasetAnswer,
    responses={**located(201, "the data set's address"), **described(409)},
    openapi_extra={"requestBody": BODY},
    summary="Upload a data set",
)
def post_dataset(
    checked: Annotated[Checked, Depends(_check, max_concurrency=UPLOADS)],
    response: Response,
    change: TheChange,
    connection: Writing,
    settings: TheSettings,
) -> DatasetAnswer:
    """Images of any shape (up to 200,000 pixels) in up to 256 classes. Pixels are whole numbers from 0 to 255, as bytes or any
    other type that holds just these, or floats from 0 to 1 in steps of 1/255; labels are whole numbers from 0. All is checked
    before the data set is there; without a test part, a fifth of the images, drawn by class, is split off and sealed."""
    root, name = settings.datasets_dir, checked.name
    dataset_uses.hold(connection, name)
    with keeping_uploads(root):
        put(checked.folder, root, name)
    change.unless_committed(lambda: Removal(root, name).finish())
    response.headers["Location"] = f"/v1/datasets/{name}"
    return _answer(connection, name, settings)


@router.get("", response_model=Page[DatasetAnswer], summary="List data sets, the newest first")
def get_datasets(
    connection: Reading, settings: TheSettings, cursor: Cursor = None, limit: Limit = 50
) -> Page[DatasetAnswer]:
    """The built-in one is the last."""
    root, before = settings.datasets_dir, cursors.decode(cursor)
    found = ((name, catalogue.description(name, root)) for name in catalogue.names(root))
    by_age = sorted(((_age(name, stored), name, stored) for name, stored in found), reverse=True)
    page, next_cursor = cursors.cut(
        [each for each in by_age if before is None or each[0] < before], limit, lambda each: each[0]
    )
    uses = dataset_uses.find_uses(connection, [name for _, name, _ in page])
    return Page(items=[_describe(name, stored, uses[name]) for _, name, stored in page], next_cursor=next_cursor)


@router.get("/{name}", response_model=DatasetAnswer, responses=described(404), summary="One data set")
def get_dataset(name: DatasetName, connection: Reading, settings: TheSettings) -> DatasetAnswer:
    """Its shape, classes, counts and checksums, and who uses it."""
    return _answer(connection, name, settings)


@router.delete("/{name}", status_code=204, responses=described(404, 409), summary="Delete a data set")
def delete_dataset(name: DatasetName, change: TheChange, connection: Writing, settings: TheSettings) -> None:
    """Refused while a study that is not deleted, or a schedule, uses it. Its name is free again, also for other data; studies
    that are restored later can be looked at, and train no more. Models stay and predict."""
    dataset_uses.hold(connection, name)
    catalogue.description(name, settings.datasets_dir)
    if name == BUILT_IN:
        raise Conflict(f"a data set that comes with the service cannot be deleted, and {name!r} does")
    uses = dataset_uses.find_uses(connection, [name])[name]
    if uses.study_count or uses.schedules:
        raise Conflict(f"only a data set that nothing uses can be deleted, but {name!r} is used by {_in_words(uses)}")
    with keeping_uploads(settings.datasets_dir):
        removal = Removal(settings.datasets_dir, name)
    change.unless_committed(removal.undo)
    change.afterwards(removal.finish)


def _free_name(upload: Upload, root: FilePath) -> str:
    """Raises InvalidInput for a name that is none, Conflict where it is taken; also found out again at the end."""
    if upload.name is None:
        raise InvalidInput("the form must have a text field `name`, but got none", ("name",))
    try:
        name = _name.validate_python(upload.name)
    except ValidationError as error:
        raise InvalidInput(f"name: {error.errors()[0]['msg']}, but got {upload.name[:80]!r}", ("name",)) from error
    if name == BUILT_IN or (root / name).exists():
        raise taken(name)
    return name


def _in_words(uses: Uses) -> str:
    more = uses.study_count - len(uses.studies)
    studies = f"the studies {', '.join(uses.studies)}" + (f" and {more} more" if more else "")
    schedules = f"the schedules {', '.join(uses.schedules)}"
    return " and ".join([*([studies] if uses.studies else []), *([schedules] if uses.schedules else [])])


def _age(name: str, stored: StoredDataset) -> str:
    """Sorts as text; what was always there is the oldest."""
    return f"{stored.created_at or ''} {name}"


def _answer(connection: Connection, name: str, settings: Settings) -> DatasetAnswer:
    stored = catalogue.description(name, settings.datasets_dir)
    return _describe(name, stored, dataset_uses.find_uses(connection, [name])[name])


def _describe(name: str, stored: StoredDataset, uses: Uses) -> DatasetAnswer:
    return DatasetAnswer(
        name=name,
        built_in=name == BUILT_IN,
        shape=list(stored.image_shape),
        classes=stored.classes,
        counts=CountsAnswer(
            train=stored.train_count,
            test=stored.test_count,
            train_per_class=list(stored.train_per_class),
            test_per_class=list(stored.test_per_class),
        ),
        checksum=stored.checksum,
        test_checksum=stored.test_checksum,
        test_split_off=stored.test_split_off,
        notes=list(stored.notes),
        study_count=uses.study_count,
        studies=list(uses.studies),
        schedules=list(uses.schedules),
        created_at=stored.created_at,
    )
