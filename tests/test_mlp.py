"""The net: its shape, its first answers, its activations and its dropout."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.digits import CLASSES, digits
from tuner.nets.dropout import dropout_mask
from tuner.nets.losses import mse
from tuner.nets.mlp import MLP
from tuner.nets.pixel_scale import PixelScale, pixel_moments, pixel_scale
from tuner.specs.hyperparameters import Activation, Hyperparameters, Normalisation

ACTIVATIONS: list[Activation] = ["sigmoid", "tanh", "relu", "maxout"]


MNIST_SCALE = PixelScale(33.0, 78.0)


def net(seed: int = 0, scale: PixelScale = MNIST_SCALE, **hyperparameters: object) -> MLP:
    return MLP(784, CLASSES, Hyperparameters(**hyperparameters), torch.Generator().manual_seed(seed), scale)


@pytest.fixture
def pixels() -> Tensor:
    return digits(100).train_images


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("depth", "width"), [(1, 7), (3, 20)])
def test_parameters_are_as_many_as_announced(activation: Activation, depth: int, width: int) -> None:
    """`Hyperparameters.parameter_count` says how large the net is."""
    made = net(activation=activation, depth=depth, width=width)
    counted = sum(parameter.numel() for parameter in made.parameters())
    assert counted == made.hyperparameters.parameter_count(784, CLASSES)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_first_loss_is_near_that_of_a_guess(pixels: Tensor, activation: Activation) -> None:
    """An untrained net of ten classes has a cross-entropy near ln 10, and hidden outputs neither dead nor exploding."""
    made = net(activation=activation).eval()
    *hidden, logits = made.layers(pixels)
    assert F.cross_entropy(logits, digits(100).train_labels).item() == pytest.approx(math.log(10), abs=0.8)
    assert all(0.1 < layer.square().mean() < 10 for layer in hidden)


def test_same_generator_same_net() -> None:
    """The generator alone decides the weights; the global one is neither read nor moved."""
    before = torch.random.get_rng_state()
    one = net(seed=3)
    torch.rand(5)
    two, other = net(seed=3), net(seed=4)
    torch.random.set_rng_state(before)
    net(seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.weights[0], other.weights[0])


@pytest.mark.parametrize("pieces", [2, 3, 5])
def test_maxout_is_the_maximum_of_its_linear_pieces(pixels: Tensor, pieces: int) -> None:
    """Each hidden unit is the largest of `maxout_pieces` linear functions of the layer below (Goodfellow et al. 2013)."""
    made = net(activation="maxout", maxout_pieces=pieces, depth=2, width=6, scale=PixelScale(0.0, 255.0)).eval()
    first, second, _ = made.layers(pixels)
    for below, layer, above in ((pixels.flatten(1) * (1 / 255.0), 0, first), (first, 1, second)):
        weight, bias = made.weights[layer], made.biases[layer]
        parts = [F.linear(below, weight[p * 6 : p * 6 + 6], bias[p * 6 : p * 6 + 6]) for p in range(pieces)]
        assert torch.allclose(above, torch.stack(parts).amax(0), atol=1e-6)


def test_relu_is_a_maxout_of_itself_and_zero(pixels: Tensor) -> None:
    """A maxout net whose second pieces are zero is the relu net of its first pieces."""
    relu, maxout = net(depth=2, width=6).eval(), net(activation="maxout", depth=2, width=6).eval()
    with torch.no_grad():
        for layer in range(2):
            maxout.weights[layer][:6], maxout.weights[layer][6:] = relu.weights[layer], 0
        maxout.weights[2][:] = relu.weights[2]
    assert torch.allclose(maxout(pixels), relu(pixels), atol=1e-6)


def test_dropout_is_off_in_evaluation(pixels: Tensor) -> None:
    """In evaluation mode a net with dropout gives the answers of one without; in training mode it does not, twice."""
    with_dropout, without = net(dropout=0.5, input_dropout=0.2), net()
    assert torch.equal(with_dropout.eval()(pixels), without.eval()(pixels))
    with_dropout.train()
    assert not torch.equal(with_dropout(pixels), without(pixels))
    assert not torch.equal(with_dropout(pixels), with_dropout(pixels))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_normalised_units_see_mean_0_and_variance_1(pixels: Tensor, activation: Activation) -> None:
    """In training mode by the batch, row by row and before the bias; in evaluation mode, and of a single image, by the running
    statistics, to which every batch adds a tenth of its own."""
    made = net(batch_norm=True, depth=1, width=6, activation=activation)
    with torch.no_grad():
        made.biases[0].uniform_(-1, 1)
    z = F.linear(made._scale(pixels), made.weights[0])
    by_batch = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() + made.biases[0]
    mean, variance = 0.1 * z.mean(0), 0.9 + 0.1 * z.var(0)
    by_running = (z - mean) / (variance + 1e-5).sqrt() + made.biases[0]
    assert torch.allclose(made.train().layers(pixels)[0], made._activate(by_batch), atol=1e-4)
    assert torch.allclose(made.eval().layers(pixels)[0], made._activate(by_running), atol=1e-4)
    assert torch.allclose(made.train().layers(pixels[:1])[0], made._activate(by_running[:1]), atol=1e-4)
    assert torch.allclose(made.eval().layers(pixels)[0], made._activate(by_running), atol=1e-4)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    """Of a million items the share is met to within four deviations; the rest is scaled so that the mean stays 1."""
    mask = dropout_mask(torch.Size([1000, 1000]), share, torch.Generator().manual_seed(0))
    dropped = (mask == 0).float().mean().item()
    assert dropped == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 1e6))
    assert mask.max().item() == pytest.approx(1 / (1 - share), rel=1e-3)
    assert mask.mean(dtype=torch.float64).item() == pytest.approx((1 - dropped) / (1 - share), rel=1e-3)
    # Neighbours are independent: four of them are cut from one random number.
    both = (mask[:, 0::2] == 0) & (mask[:, 1::2] == 0)
    assert both.float().mean().item() == pytest.approx(share**2, abs=0.003)


@pytest.mark.parametrize("share", [0.0, 0.999999999])
def test_extreme_dropout_is_finite(share: float) -> None:
    """Even where all but nothing is dropped, the mask has no infinity."""
    assert dropout_mask(torch.Size([7, 3]), share, torch.Generator().manual_seed(0)).isfinite().all()


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [("none", PixelScale(0, 1)), ("scale", PixelScale(0, 255)), ("standardise", PixelScale(33.318421, 78.567490))],
)
def test_pixels_are_scaled_as_asked(normalisation: Normalisation, expected: PixelScale) -> None:
    """For MNIST the standardising moments are those of the literature, 0.1307 and 0.3081 of 255."""
    scale = pixel_scale(normalisation, pixel_moments(digits(60_000).train_images.numpy()))
    assert [scale.mean, scale.deviation] == pytest.approx([expected.mean, expected.deviation])


def test_standardised_pixels_have_mean_0_and_deviation_1() -> None:
    """The images the moments are of come out centred, with deviation 1; the caller's pixels are left as they were."""
    images = digits(100).train_images
    floats = images.float()
    before = floats.clone()
    made = net(scale=pixel_moments(images.numpy()))
    scaled = made._scale(floats)
    assert [scaled.mean().item(), scaled.std().item()] == pytest.approx([0, 1], abs=1e-4)
    assert torch.equal(scaled, made._scale(images))
    assert torch.equal(floats, before)


def test_images_of_one_colour_have_a_scale() -> None:
    """No division by zero."""
    assert pixel_moments(np.full((3, 2, 2), 9, np.uint8)) == PixelScale(9.0, 1.0)


def test_mse_is_taken_on_softmax_outputs() -> None:
    """0 for certainty, 2 for certain error, summed over classes: the value written out for one image."""
    labels = torch.tensor([0])
    assert mse(torch.tensor([[100.0, 0.0, 0.0]]), labels).item() == pytest.approx(0)
    assert mse(torch.tensor([[0.0, 100.0, 0.0]]), labels).item() == pytest.approx(2)
    assert mse(torch.tensor([[0.0, 0.0]]), labels).item() == pytest.approx(0.5**2 + 0.5**2)
