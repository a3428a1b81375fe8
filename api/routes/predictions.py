"""What a model says of images."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from api.answers import PredictionsAnswer
from api.dependencies import Reading, TheSettings, find_files, find_model
from api.images import ImagesBody, read_images
from api.problems import described
from api.remembered import Remembered
from api.routes.models import ModelId
from api.served_nets import ServedNet, load

router = APIRouter(prefix="/v1/models", tags=["models"])

DIGITS = 6
"""After the decimal point of a probability: what single precision holds."""

EXAMPLES: dict[str, Any] = {
    "flat": {"value": {"images": [[0] * 784]}},
    "rows": {"value": {"images": [[[0] * 28] * 28]}},
}
BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": ImagesBody.model_json_schema(), "examples": EXAMPLES},
        "image/png": {"schema": {"type": "string", "format": "binary", "description": "of the model's size"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
    },
}


def _served(model_id: ModelId, connection: Reading, settings: TheSettings, request: Request) -> ServedNet:
    model = find_model(connection, model_id)
    nets: Remembered[ServedNet] = request.app.state.nets
    return nets.get((model.id, model.sha256), lambda: load(find_files(model, settings), model))


@router.post(
    "/{model_id}/predict",
    response_model=PredictionsAnswer,
    responses=described(404, 413),
    openapi_extra={"requestBody": BODY},
    summary="Predict classes of images",
)
async def predict(
    model_id: ModelId, request: Request, served: Annotated[ServedNet, Depends(_served)]
) -> PredictionsAnswer:
    """Pixels are numbers from 0 to 255, as in the data set: the model scales them itself. A PNG must have the model's size and no
    transparency; colours become grey. Names of a form's fields do not matter."""
    images = await read_images(request, served.config.image_shape)
    probabilities = await run_in_threadpool(served.net.predict, images)
    return PredictionsAnswer(
        model=model_id,
        labels=probabilities.argmax(axis=1).tolist(),
        probabilities=np.round(probabilities.astype(np.float64), DIGITS).tolist(),
    )
