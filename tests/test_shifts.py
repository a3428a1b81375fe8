"""Shifts move whole digits."""

import pytest
import torch

from tests.digits import digits
from tuner.errors import InvalidInput
from tuner.nets.shifts import ShiftedImages


def moved_by_hand(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The slow and obvious way: pixel by pixel."""
    height, width = image.shape
    moved = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[row, column] = image[row - down, column - right]
    return moved


@pytest.mark.parametrize(("height", "width", "pixels"), [(28, 28, 2), (5, 9, 1), (9, 5, 4), (2, 2, 3)])
def test_an_image_moves_by_exactly_its_shift(height: int, width: int, pixels: int) -> None:
    """Every shift of every image, also of oblong ones and by more than they measure: pixels move, background moves in."""
    images = digits(3).train_images[:, 10 : 10 + height, 10 : 10 + width] if height < 28 else digits(3).train_images
    shifted = ShiftedImages(images.contiguous(), pixels, torch.Generator())
    for down in range(-pixels, pixels + 1):
        for right in range(-pixels, pixels + 1):
            got = shifted.moved(torch.tensor([2, 0]), torch.tensor([down, 0]), torch.tensor([right, -right]))
            expected = torch.stack([moved_by_hand(images[2], down, right), moved_by_hand(images[0], 0, -right)])
            assert torch.equal(got.view(2, height, width), expected)


def test_each_image_of_a_batch_has_a_shift_of_its_own() -> None:
    """Shifts of up to 2 pixels: all 25 occur, about equally often, along both axes alike."""
    dot = torch.zeros(1, 5, 5, dtype=torch.uint8)
    dot[0, 2, 2] = 255
    batch = ShiftedImages(dot, 2, torch.Generator().manual_seed(0)).batch(torch.zeros(5000, dtype=torch.int64))
    assert batch.dtype == torch.uint8
    assert (batch.sum(1) == 255).all()
    where = batch.argmax(1).bincount(minlength=25)
    assert where.min() > 140
    assert where.max() < 260


@pytest.mark.parametrize("shape", [(4, 12), (4, 3, 2, 2)])
def test_only_pictures_can_be_shifted(shape: tuple[int, ...]) -> None:
    """Rows and colours have no two axes to move along."""
    with pytest.raises(InvalidInput, match="shift_pixels above 0 needs images of") as error:
        ShiftedImages(torch.zeros(shape, dtype=torch.uint8), 1, torch.Generator())
    assert error.value.loc == ("search_space", "shift_pixels")
