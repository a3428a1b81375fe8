"""Images in a request: JSON arrays of pixels, a PNG as the body, or PNGs as the parts of a form."""

import io
import math
from typing import Annotated, Any

import numpy as np
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import Discriminator, Field, Tag, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from tuner.errors import InvalidInput
from tuner.specs.spec import Spec

MAX_IMAGES = 1000
"""Of one request, whose body has a mebibyte at most: some 300 of MNIST's size as JSON."""

Pixels = NDArray[np.float32]

Pixel = Annotated[float, Field(ge=0, le=255, allow_inf_nan=False, strict=True)]


def _nesting(image: Any) -> str:
    depth = 0
    while isinstance(image, list) and image and depth < len(_NESTINGS):
        depth, image = depth + 1, image[0]
    return _NESTINGS[max(0, depth - 1)]


_NESTINGS = ("flat", "rows", "colours")

AnImage = Annotated[
    Annotated[list[Pixel], Tag("flat")]
    | Annotated[list[list[Pixel]], Tag("rows")]
    | Annotated[list[list[list[Pixel]]], Tag("colours")],
    Discriminator(_nesting),
]


class ImagesBody(Spec):
    """Pixels from 0 (background) to 255, as they are in the data set, not scaled."""

    images: list[AnImage] = Field(
        min_length=1, max_length=MAX_IMAGES, description="each flat, or in rows", examples=[[[0, 0, 255, 128]]]
    )


async def read_images(request: Request, shape: tuple[int, ...]) -> Pixels:
    """The images (count, *shape) of the request's body, pixels 0 to 255. Raises InvalidInput or RequestValidationError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "image/png":
        return _stack([await run_in_threadpool(_decode, await request.body(), shape)])
    if kind == "multipart/form-data":
        return await _read_form(request, shape)
    return await run_in_threadpool(_read_json, await request.body(), shape)


async def _read_form(request: Request, shape: tuple[int, ...]) -> Pixels:
    async with request.form(max_files=MAX_IMAGES) as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise InvalidInput("a form must hold at least one PNG file, but got none", ("files",))
        contents = [await file.read() for file in files]
    return await run_in_threadpool(lambda: _stack([_decode(content, shape) for content in contents]))


def _read_json(body: bytes, shape: tuple[int, ...]) -> Pixels:
    try:
        images = ImagesBody.model_validate_json(body).images
    except ValidationError as error:
        found = [{**e, "loc": ("body", *(part for part in e["loc"] if part not in _NESTINGS))} for e in error.errors()]
        raise RequestValidationError(found) from error
    return _stack([_fit(image, shape, k) for k, image in enumerate(images)])


def _fit(image: list[Any], shape: tuple[int, ...], k: int) -> Pixels:
    try:
        pixels = np.asarray(image, dtype=np.float32)
        found = "×".join(map(str, pixels.shape))
    except ValueError:
        pixels, found = np.empty(0, np.float32), "rows of different lengths"
    if pixels.shape not in (shape, (math.prod(shape),)):
        wanted = "×".join(map(str, shape))
        raise InvalidInput(
            f"an image of this model must have {math.prod(shape)} pixels, flat or as {wanted}, but got {found}",
            ("images", k),
        )
    return pixels.reshape(shape)


def _decode(content: bytes, shape: tuple[int, ...]) -> Pixels:
    """The pixels of a PNG of exactly that shape; colours become grey where the shape has two dimensions."""
    if len(shape) != 2 and shape[2:] != (3,):
        raise InvalidInput(f"a PNG is for images of rows and columns, but this model's have the shape {shape}")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size != (shape[1], shape[0]):  # read from the header, before anything is unpacked
                width, height = image.size
                raise InvalidInput(
                    f"a PNG for this model must have {shape[1]}×{shape[0]} pixels, but got {width}×{height}"
                )
            return np.asarray(_opaque(image).convert("L" if len(shape) == 2 else "RGB"), dtype=np.float32)
    except UnidentifiedImageError as error:
        raise InvalidInput(f"an upload must be a whole PNG, but got bytes that begin with {content[:8]!r}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"an upload must be a whole PNG, but {error}") from error


def _opaque(image: Image.Image) -> Image.Image:
    """With eight bits a colour; what shines through has no colour of its own."""
    if image.mode.startswith("I"):
        raise InvalidInput(f"a PNG must have 8 bits a colour, but got the mode {image.mode}")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        lowest, _ = image.getchannel("A").getextrema()
        if lowest != 255:
            raise InvalidInput(f"a PNG must be opaque, but got pixels with an opacity of {lowest} of 255")
    return image


def _stack(images: list[Pixels]) -> Pixels:
    return np.stack(images)
