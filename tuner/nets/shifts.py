"""Training images moved by whole pixels, the cheapest augmentation there is."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.errors import InvalidInput


class ShiftedImages:
    """Batches of `images` (count, height, width), each moved by up to `pixels` along both axes; background (0) moves in.

    Raises InvalidInput for images of any other rank.
    """

    def __init__(self, images: Tensor, pixels: int, generator: torch.Generator) -> None:
        if images.dim() != 3:
            rule = "shift_pixels above 0 needs images of (height, width)"
            raise InvalidInput(f"{rule}, but got shape {tuple(images.shape[1:])}", ("search_space", "shift_pixels"))
        self._pixels, self._generator = pixels, generator
        _, self._height, width = images.shape
        padded = F.pad(images, (pixels,) * 4)
        self._stride = padded.stride()
        # Row r of this view is the `width` pixels from flat position r on: rows overlap, none is copied. Taking whole rows out of
        # it is nearly as fast as taking whole images, and three times faster than gathering pixels.
        self._rows = padded.as_strided((padded.numel() - width + 1, width), (1, 1))

    def batch(self, index: Tensor) -> Tensor:
        """The images at `index` (batch,), each with a shift of its own, as (batch, inputs)."""
        down, right = torch.randint(-self._pixels, self._pixels + 1, (2, len(index)), generator=self._generator)
        return self.moved(index, down, right)

    def moved(self, index: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """The images at `index` (batch,), moved by `down` and `right` (batch,) pixels, each at most `pixels` either way."""
        image, row, column = self._stride
        corner = index * image + (self._pixels - down) * row + (self._pixels - right) * column
        first_pixels = corner[:, None] + torch.arange(self._height) * row  # (batch, height)
        return self._rows.index_select(0, first_pixels.flatten()).view(len(index), -1)
