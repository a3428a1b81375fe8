"""Turns and zooms move whole digits about their middle."""

import math

import pytest
import torch

from tests.digits import digits
from tuner.errors import InvalidInput
from tuner.nets.turning import Turning
from tuner.specs.hyperparameters import Hyperparameters


def turning(degrees: float = 0.0, zoom: float = 0.0, shape: tuple[int, ...] = (28, 28)) -> Turning:
    point = Hyperparameters(rotate_degrees=degrees, zoom=zoom)
    return Turning(shape, point, torch.Generator().manual_seed(0))


def by_hand(image: torch.Tensor, angle: float, factor: float) -> torch.Tensor:
    """The slow and obvious way: each pixel from the four about the point that it comes from."""
    height, width = image.shape
    made = torch.zeros(height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            y, x = (row - (height - 1) / 2) / factor, (column - (width - 1) / 2) / factor
            from_row = math.cos(angle) * y - math.sin(angle) * x + (height - 1) / 2
            from_column = math.sin(angle) * y + math.cos(angle) * x + (width - 1) / 2
            for r in (math.floor(from_row), math.floor(from_row) + 1):
                for c in (math.floor(from_column), math.floor(from_column) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        share = (1 - abs(from_row - r)) * (1 - abs(from_column - c))
                        made[row, column] += share * float(image[r, c])
    return made


@pytest.mark.parametrize(("height", "width"), [(28, 28), (13, 20), (20, 13)])
def test_an_image_turns_by_its_angle_and_grows_by_its_factor(height: int, width: int) -> None:
    """Each image of a batch by its own, also oblong ones, and beyond the edges there is background."""
    images = digits(3).train_images[:, (28 - height) // 2 :, (28 - width) // 2 :][:, :height, :width]
    angles, factors = torch.tensor([0.3, -2.0, 0.0]), torch.tensor([1.2, 0.7, 1.0])
    made = turning(10, 0.1, (height, width)).turned(images.flatten(1), angles, factors).view_as(images)
    for image, got, angle, factor in zip(images, made, angles, factors, strict=True):
        expected = by_hand(image, float(angle), float(factor))
        torch.testing.assert_close(got.to(torch.float64), expected, atol=0.01, rtol=0)
    torch.testing.assert_close(made[2], images[2].to(torch.float32), atol=0.001, rtol=0)


def test_each_image_of_a_batch_is_turned_anew() -> None:
    """Angles of up to 30 degrees either way, about equally often: where a far dot has gone tells them. So with zooms of 0.5."""
    dot = torch.zeros(4000, 41, 41)
    dot[:, 19:22, 39] = 255.0
    turned = turning(degrees=30, shape=(41, 41))(dot.flatten(1)).view_as(dot)
    middle = torch.arange(41) - 20.0
    total = turned.sum((1, 2))
    degrees = torch.atan2((turned.sum(2) @ middle) / total, (turned.sum(1) @ middle) / total).rad2deg()
    assert 29 < degrees.max() < 31
    assert -31 < degrees.min() < -29
    shares = torch.histc(degrees, 6, -30, 30) / 4000
    assert shares.min() > 0.13
    assert shares.max() < 0.2
    square = torch.zeros(4000, 41, 41)
    square[:, 15:26, 15:26] = 1.0
    sides = turning(zoom=0.5, shape=(41, 41))(square.flatten(1)).sum(1).sqrt() / 11
    assert 0.45 < sides.min() < 0.55
    assert 1.45 < sides.max() < 1.55


@pytest.mark.parametrize("shape", [(12,), (3, 8, 8)])
@pytest.mark.parametrize("name", ["rotate_degrees", "zoom"])
def test_only_pictures_can_be_turned(name: str, shape: tuple[int, ...]) -> None:
    """Rows and colours have no two axes to turn in."""
    with pytest.raises(InvalidInput, match=f"{name} above 0 needs images of") as error:
        Turning(shape, Hyperparameters.model_validate({name: 0.5}), torch.Generator())
    assert error.value.loc == ("search_space", name)
