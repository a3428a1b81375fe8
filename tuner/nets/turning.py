"""Training images turned and scaled about their middle."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.errors import InvalidInput
from tuner.specs.hyperparameters import Hyperparameters


class Turning:
    """Turns images of `shape` (height, width) by up to `rotate_degrees` either way and shows them 1 ± up to `zoom` times as
    large, each by an angle and a factor of its own; what lies outside is background (0).

    Raises InvalidInput for images of any other rank.
    """

    def __init__(self, shape: tuple[int, ...], hyperparameters: Hyperparameters, generator: torch.Generator) -> None:
        self._degrees, self._zoom, self._generator = hyperparameters.rotate_degrees, hyperparameters.zoom, generator
        if len(shape) != 2:
            name = "rotate_degrees" if self._degrees else "zoom"
            rule = f"{name} above 0 needs images of (height, width)"
            raise InvalidInput(f"{rule}, but got shape {shape}", ("search_space", name))
        self._height, self._width = shape
        across, down = _middles(self._width), _middles(self._height)
        self._points = torch.stack([across.repeat(self._height), down.repeat_interleave(self._width)])  # (2, inputs)

    def __call__(self, images: Tensor) -> Tensor:
        """Of images (batch, inputs), as float32 (batch, inputs) on the scale that they had."""
        drawn = torch.rand((2, len(images)), generator=self._generator) * 2 - 1
        return self.turned(images, drawn[0] * math.radians(self._degrees), 1 + drawn[1] * self._zoom)

    def turned(self, images: Tensor, angle: Tensor, factor: Tensor) -> Tensor:
        """The images (batch, inputs), turned by `angle` (batch,) radians, clockwise, and `factor` (batch,) times as large."""
        # Where in the image a point of the result comes from: of all images in one product of matrices. `F.affine_grid` has one
        # for each, which takes several times as long (docs/decisions.md, "Turns and zooms").
        cosine, sine, oblong = angle.cos() / factor, angle.sin() / factor, self._height / self._width
        transforms = torch.stack([cosine, sine * oblong, -sine / oblong, cosine], 1).view(-1, 2)  # two rows an image
        grid = (transforms @ self._points).view(len(images), 2, self._height, self._width).permute(0, 2, 3, 1)
        pixels = images.to(torch.float32).view(len(images), 1, self._height, self._width)
        return F.grid_sample(pixels, grid, align_corners=False).flatten(1)


def _middles(pixels: int) -> Tensor:
    """Of a row of so many pixels (pixels,), from its middle, in units of half the row."""
    return (2 * torch.arange(pixels) + 1) / pixels - 1
