"""The models that were kept."""

import io
import zipfile
from typing import Annotated

from fastapi import APIRouter, Path, Response

from api import cursors, views
from api.answers import ModelAnswer, Page
from api.dependencies import Cursor, Limit, Reading, TheSettings, find_files, find_model
from api.problems import described
from tuner.errors import DamagedData
from tuner.store import model_registry

router = APIRouter(prefix="/v1/models", tags=["models"])

ModelId = Annotated[str, Path(description="the model's id", examples=["5f2c9a7e01b34d68"])]


@router.get("", response_model=Page[ModelAnswer], summary="List models, the newest first")
def get_models(connection: Reading, cursor: Cursor = None, limit: Limit = 50) -> Page[ModelAnswer]:
    """Those of all studies that are not deleted, also where their files were removed to make room."""
    found = model_registry.list_models(connection, cursors.decode(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda model: f"{model.created_at} {model.id}")
    return Page(items=views.model_answers(connection, page), next_cursor=next_cursor)


@router.get("/{model_id}", response_model=ModelAnswer, responses=described(404), summary="One model")
def get_model(model_id: ModelId, connection: Reading) -> ModelAnswer:
    """Its hyperparameters, size and metrics, and the schedules whose champion it was."""
    [answer] = views.model_answers(connection, [find_model(connection, model_id)])
    return answer


@router.get(
    "/{model_id}/download",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}}, **described(404)},
    summary="A model's files",
)
def download(model_id: ModelId, connection: Reading, settings: TheSettings) -> Response:
    """A zip of `weights.safetensors`, `config.json`, `metrics.json` and `README.md`, the model's card."""
    model = find_model(connection, model_id)
    folder, packed = find_files(model, settings), io.BytesIO()
    try:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"{model.study}-{model.kind}/{path.name}")
    except OSError as error:
        raise DamagedData(f"the files of model {model.id} cannot be read: {error.strerror}") from error
    headers = {"Content-Disposition": f'attachment; filename="{model.study}-{model.kind}.zip"'}
    return Response(packed.getvalue(), media_type="application/zip", headers=headers)
