"""One point of the search space: everything that defines a net and its training but the data, the epochs and the seed."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tuner.specs.spec import Spec

Activation = Literal["sigmoid", "tanh", "relu", "maxout"]
Loss = Literal["mse", "cross_entropy"]
Optimizer = Literal["sgd", "momentum", "rmsprop", "adam"]
Normalisation = Literal["none", "scale", "standardise"]

CONDITIONS: dict[str, tuple[str, str]] = {
    "maxout_pieces": ("activation", "maxout"),
    "momentum": ("optimizer", "momentum"),
    "rmsprop_alpha": ("optimizer", "rmsprop"),
}
"""A hyperparameter that applies only where another one has a given value."""

WHERE_APPLICABLE: dict[str, float] = {"maxout_pieces": 2, "momentum": 0.9, "rmsprop_alpha": 0.9}
"""The value of a conditional hyperparameter that applies and was not given."""

MOVING = ("shift_pixels", "rotate_degrees", "zoom")
"""What moves the pixels of training images, and so needs images of (height, width)."""


class Hyperparameters(Spec):
    """The defaults are the default configuration: what a practitioner would try first, and what tuning has to beat.

    A hyperparameter that does not apply (`momentum` without the momentum optimizer) is None.
    """

    depth: int = Field(2, ge=1, le=32, description="hidden layers")
    width: int = Field(128, ge=1, le=4096, description="units of each hidden layer")
    activation: Activation = "relu"
    maxout_pieces: Annotated[int, Field(ge=2, le=8)] | None = Field(None, description="linear pieces of a maxout unit")
    batch_norm: bool = Field(
        False, description="the inputs of hidden units get mean 0 and variance 1 in each batch (Ioffe & Szegedy 2015)"
    )
    loss: Loss = Field("cross_entropy", description="mse is taken on the softmax outputs")
    optimizer: Optimizer = "adam"
    learning_rate: float = Field(1e-3, gt=0, le=100)
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    rmsprop_alpha: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="smoothing of the squared gradient"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden units dropped in training")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="share of pixels dropped in training")
    shift_pixels: int = Field(0, ge=0, le=4, description="training images move by up to so many pixels each way")
    rotate_degrees: float = Field(0.0, ge=0, le=180, description="training images turn by up to so many degrees")
    zoom: float = Field(0.0, ge=0, lt=1, description="training images grow or shrink by up to this share")
    batch_size: int = Field(128, ge=1, le=8192)
    weight_decay: float = Field(1e-6, ge=0, le=1, description="L2 penalty added to the gradient of the weights")
    normalisation: Normalisation = Field(
        "standardise",
        description="none: pixels 0 to 255; scale: 0 to 1; standardise: by the training images' mean and deviation",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_conditional(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        for name, (parent, value) in CONDITIONS.items():
            applies = filled.get(parent, cls.model_fields[parent].default) == value
            if applies and filled.get(name) is None:
                filled[name] = WHERE_APPLICABLE[name]
            elif not applies and filled.get(name) is not None:
                raise ValueError(f"{name} applies only where {parent} is {value!r}, but got {name}={filled[name]!r}")
        return filled

    def parameter_count(self, inputs: int, classes: int) -> int:
        """Weights and biases of the net for images of `inputs` pixels."""
        pieces = self.maxout_pieces or 1
        hidden = (inputs + 1) * self.width * pieces + (self.depth - 1) * (self.width + 1) * self.width * pieces
        return hidden + (self.width + 1) * classes
