"""Numbers as pixels: whole ones from 0 to 255, as a byte each. What could be meant in two ways is refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tuner.data.foreign_array import ForeignArray
from tuner.errors import InvalidInput

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

Scale = Literal["bytes", "shares", "either"]
"""0 to 255; 0 to 1, in steps of 1/255; numbers that are nothing but 0 and 1, and could be of both."""

TOLERANCE = 0.1
"""Of a step of 1/255: half precision has a share so exactly, and numbers that are no bytes at heart do not all lie so near."""


@dataclass
class _Seen:
    """Of all numbers so far."""

    low: float = np.inf
    high: float = -np.inf
    between: float | None = None
    """One that is not whole."""
    between_steps: float | None = None
    """One that is no whole number of 255ths."""

    def look(self, block: np.ndarray[Any, Any]) -> None:
        self.low, self.high = min(self.low, float(block.min())), max(self.high, float(block.max()))
        if block.dtype.kind == "f":
            numbers = block.astype(np.float64)
            self.between = self.between if self.between is not None else _first(block, numbers != np.rint(numbers))
            off = np.abs(255 * numbers - np.rint(255 * numbers)) > TOLERANCE
            self.between_steps = self.between_steps if self.between_steps is not None else _first(block, off)


def scale_of(images: ForeignArray) -> Scale:
    """How the numbers are meant, after a look at all of them. Raises InvalidInput where they are no pixels."""
    kind = images.dtype.kind
    if kind not in "uif":
        rule = "pixels must be whole numbers from 0 to 255, or floats of such"
        raise _refused(f"{images.name}: {rule}, but got the type {images.dtype}")
    if images.dtype == np.uint8:
        return "bytes"
    seen = _Seen()
    for block in images.blocks():
        if not np.isfinite(block).all():
            raise _refused(f"{images.name}: pixels must be finite, but got a NaN or an infinity")
        seen.look(block)
        if seen.low < 0 or seen.high > 255:
            got = seen.low if seen.low < 0 else seen.high
            raise _refused(f"{images.name}: pixels must be from 0 to 255, but got {got:g}")
    if kind in "ui":
        return "bytes"
    if seen.between is None:
        return "bytes" if seen.high > 1 else "either"
    if seen.high <= 1 and seen.between_steps is None:
        return "shares"
    rule = (
        "floats must be whole numbers from 0 to 255, or 255ths from 0 to 1, of which bytes can be made without a loss"
    )
    got = seen.between_steps if seen.high <= 1 and seen.between_steps is not None else seen.between
    raise _refused(f"{images.name}: {rule}, but got {got:g} with a largest number of {seen.high:g}")


def common_scale(train: ForeignArray, test: ForeignArray | None) -> Scale:
    """`bytes` or `shares`, for both. Raises InvalidInput where they differ, or it cannot be told."""
    scale = scale_of(train)
    if scale == "either":
        rule = "floats of only 0 and 1 could be bytes or shares of 255; send them as uint8, with 0 to 255 as they are meant"
        raise _refused(f"{train.name}: {rule}")
    other = scale if test is None else scale_of(test)
    if test is not None and other != scale and not (other == "either" and train.dtype.kind == "f"):
        in_words = {"bytes": "0 to 255", "shares": "0 to 1", "either": "0 and 1 alone"}
        rule = "training and test images must be of one scale"
        got = f"{train.name} is of {in_words[scale]} and {test.name} of {in_words[other]}"
        raise _refused(f"{rule}, but {got}")
    return scale


def as_bytes(images: ForeignArray, scale: Scale) -> Iterator[Pixels]:
    """Blocks (rows, *image_shape) of the pixels."""
    for block in images.blocks():
        yield np.rint(255 * block.astype(np.float64)).astype(np.uint8) if scale == "shares" else block.astype(np.uint8)


def _first(block: np.ndarray[Any, Any], where: np.ndarray[Any, Any]) -> float | None:
    return float(block[where][0]) if where.any() else None


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, ("files",))
