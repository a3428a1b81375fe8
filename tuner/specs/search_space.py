"""What may vary: a range, a list of choices or a fixed value for each hyperparameter."""

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, Protocol, Self, TypeVar

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from tuner.errors import InvalidInput
from tuner.specs.hyperparameters import (
    CONDITIONS,
    MOVING,
    WHERE_APPLICABLE,
    Activation,
    Hyperparameters,
    Loss,
    Normalisation,
    Optimizer,
)
from tuner.specs.spec import Spec

Value = bool | int | float | str


class Suggests(Protocol):
    """A live Optuna trial, a `FixedTrial`, a stored trial, or any other thing that answers by name."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


def _check_range(low: float, high: float, log: bool, step: float | None, default_step: float | None) -> None:
    if low > high:
        raise ValueError(f"low <= high must hold, but got {low=}, {high=}")
    if log and low <= 0:
        raise ValueError(f"low > 0 must hold with log=true, but got {low=}")
    if log and step != default_step:
        raise ValueError(f"step and log exclude each other, but got {step=}, {log=}")


class IntRange(Spec):
    low: int
    high: int
    log: bool = False
    step: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, self.log, self.step, 1)
        return self

    def extremes(self) -> tuple[Value, ...]:
        return self.low, self.high

    def count(self) -> int | None:
        return (self.high - self.low) // self.step + 1

    def rule(self) -> str:
        return f"from {self.low} to {self.high}" + (f" in steps of {self.step}" if self.step != 1 else "")

    def contains(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high and (value - self.low) % self.step == 0)

    def draw(self, trial: Suggests, name: str) -> Value:
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)


class FloatRange(Spec):
    low: float
    high: float
    log: bool = False
    step: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, self.log, self.step, None)
        return self

    def extremes(self) -> tuple[Value, ...]:
        return self.low, self.high

    def count(self) -> int | None:
        if self.low == self.high:
            return 1
        return None if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def rule(self) -> str:
        return f"from {self.low:g} to {self.high:g}" + (f" in steps of {self.step:g}" if self.step is not None else "")

    def contains(self, value: Any) -> bool:
        if not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def draw(self, trial: Suggests, name: str) -> Value:
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


T = TypeVar("T")


class Choice(Spec, Generic[T]):
    choices: tuple[T, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.choices)) < len(self.choices):
            raise ValueError(f"choices must be distinct, but got {list(self.choices)}")
        return self

    def extremes(self) -> tuple[Value, ...]:
        return self.choices  # type: ignore[return-value]

    def count(self) -> int | None:
        return len(self.choices)

    def rule(self) -> str:
        return f"one of {', '.join(map(str, self.choices))}"

    def contains(self, value: Any) -> bool:
        return value in self.choices

    def draw(self, trial: Suggests, name: str) -> Value:
        return trial.suggest_categorical(name, self.choices)  # type: ignore[no-any-return]


def _shape(given: Any) -> str:
    if isinstance(given, Mapping):
        return "choice" if "choices" in given else "range"
    if isinstance(given, Choice):
        return "choice"
    return "range" if isinstance(given, IntRange | FloatRange) else "fixed"


_ByShape = Discriminator(_shape)
_Range = Annotated[IntRange, Tag("range")]
_FloatRange = Annotated[FloatRange, Tag("range")]
IntDimension = Annotated[
    Annotated[int, Tag("fixed")] | _Range | Annotated[Choice[int], Tag("choice")],
    _ByShape,
]
FloatDimension = Annotated[
    Annotated[float, Tag("fixed")] | _FloatRange | Annotated[Choice[float], Tag("choice")],
    _ByShape,
]
LearningRateDimension = Annotated[
    Annotated[Literal["auto"] | float, Tag("fixed")] | _FloatRange | Annotated[Choice[float], Tag("choice")],
    _ByShape,
]
ActivationDimension = Annotated[
    Annotated[Activation, Tag("fixed")] | Annotated[Choice[Activation], Tag("choice")],
    _ByShape,
]
BatchNormDimension = Annotated[Annotated[bool, Tag("fixed")] | Annotated[Choice[bool], Tag("choice")], _ByShape]
LossDimension = Annotated[Annotated[Loss, Tag("fixed")] | Annotated[Choice[Loss], Tag("choice")], _ByShape]
OptimizerDimension = Annotated[
    Annotated[Optimizer, Tag("fixed")] | Annotated[Choice[Optimizer], Tag("choice")], _ByShape
]
NormalisationDimension = Annotated[
    Annotated[Normalisation, Tag("fixed")] | Annotated[Choice[Normalisation], Tag("choice")],
    _ByShape,
]
Dimension = IntRange | FloatRange | Choice[Any] | Value

LEARNING_RATES: dict[Optimizer, FloatRange] = {
    "sgd": FloatRange(low=1e-2, high=1.0, log=True),
    "momentum": FloatRange(low=1e-3, high=0.3, log=True),
    "rmsprop": FloatRange(low=1e-4, high=1e-2, log=True),
    "adam": FloatRange(low=1e-4, high=1e-2, log=True),
}
"""What `"auto"` means: learning rates of different optimizers differ by orders of magnitude."""

MAX_GRID = 100_000


class SearchSpace(Spec):
    """A hyperparameter left out keeps its default range; a plain value fixes it."""

    depth: IntDimension = IntRange(low=1, high=6)
    width: IntDimension = IntRange(low=32, high=512, log=True)
    activation: ActivationDimension = Choice[Activation](choices=("sigmoid", "tanh", "relu", "maxout"))
    maxout_pieces: IntDimension = int(WHERE_APPLICABLE["maxout_pieces"])
    batch_norm: BatchNormDimension = Choice[bool](choices=(False, True))
    loss: LossDimension = Choice[Loss](choices=("mse", "cross_entropy"))
    optimizer: OptimizerDimension = Choice[Optimizer](choices=("sgd", "momentum", "rmsprop", "adam"))
    learning_rate: LearningRateDimension = Field("auto", description="auto: a range for each optimizer")
    momentum: FloatDimension = WHERE_APPLICABLE["momentum"]
    rmsprop_alpha: FloatDimension = WHERE_APPLICABLE["rmsprop_alpha"]
    dropout: FloatDimension = FloatRange(low=0.0, high=0.6)
    input_dropout: FloatDimension = 0.0
    shift_pixels: IntDimension = Choice[int](choices=(0, 1, 2))
    rotate_degrees: FloatDimension = Choice[float](choices=(0.0, 10.0))
    zoom: FloatDimension = Choice[float](choices=(0.0, 0.1))
    batch_size: IntDimension = Choice[int](choices=(32, 64, 128, 256))
    weight_decay: FloatDimension = FloatRange(low=1e-6, high=1e-2, log=True)
    normalisation: NormalisationDimension = "standardise"

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        """Both ends of every range, and every choice, must be a value that a net can have."""
        for name, adapter in _VALUES.items():
            dimension = getattr(self, name)
            if dimension == "auto":
                continue
            for value in _extremes(dimension):
                try:
                    adapter.validate_python(value)
                except ValidationError as error:
                    raise ValueError(f"{name}: {error.errors()[0]['msg']}, but got {value!r}") from None
        return self

    def suggest(self, trial: Suggests) -> Hyperparameters:
        """The point that `trial` stands for; a live trial is asked, a stored one answers from its parameters."""
        point: dict[str, Any] = {}
        for name in _ORDER:
            if name in CONDITIONS and point[CONDITIONS[name][0]] != CONDITIONS[name][1]:
                continue
            flat, dimension = self._flat(name, point)
            drawn = isinstance(dimension, IntRange | FloatRange | Choice)
            point[name] = dimension.draw(trial, flat) if drawn else dimension  # type: ignore[union-attr]
        return Hyperparameters(**point)

    def restore(self, params: Mapping[str, Any]) -> Hyperparameters:
        """The point whose flat Optuna parameters are `params`. Raises KeyError where one is missing."""
        return self.suggest(_Stored(params))

    def find(self, params: Mapping[str, Any]) -> Hyperparameters | None:
        """As `restore`; None where `params` are no point of a space like this, as those of another program's trial can be."""
        try:
            return self.restore(params)
        except (KeyError, ValueError):
            return None

    def params(self, point: Hyperparameters) -> dict[str, Value] | None:
        """The flat Optuna parameters of `point`, or None where it lies outside this space."""
        recorder = _Recorder(self, point)
        return recorder.params if self.suggest(recorder) == point and recorder.inside else None

    def complete(self, given: Mapping[str, Value]) -> Hyperparameters:
        """The point of this space with the `given` hyperparameters; the rest is what the space fixes, else the default's.

        Raises InvalidInput, which names the hyperparameter and its rule, where there is no such point.
        """
        if unknown := sorted(set(given) - set(_ORDER)):
            raise _refused(unknown[0], f"{unknown[0]} is no hyperparameter; there are {', '.join(_ORDER)}")
        default = {**self.default().model_dump(), **WHERE_APPLICABLE}
        point: dict[str, Any] = {}
        for name in _ORDER:
            parent, value = CONDITIONS.get(name, (None, None))
            if parent is None or point[parent] == value:
                point[name] = _choose(name, self._flat(name, point)[1], given, default)
            elif name in given:
                raise _refused(name, f"{name} applies only where {parent} is {value!r}, but it is {point[parent]!r}")
        return Hyperparameters(**point)

    def near(self, point: Hyperparameters, told: Mapping[str, Value]) -> Hyperparameters | None:
        """`point` with the `told` values, each as near as its range has it; what the user has fixed stays. None where this space
        has no such point."""
        wanted = {**point.model_dump(), **told}
        given: dict[str, Value] = {}
        for name, value in wanted.items():
            parent, needed = CONDITIONS.get(name, (None, None))
            if value is not None and self.varies(name) and (parent is None or wanted[parent] == needed):
                dimension = self._flat(name, wanted)[1]
                ranged = isinstance(dimension, IntRange | FloatRange)
                given[name] = min(max(value, dimension.low), dimension.high) if ranged else value  # type: ignore[union-attr]
        try:
            return self.complete(given)
        except InvalidInput:
            return None

    def values(self, name: str) -> tuple[Value, ...]:
        """The choices of a hyperparameter, the ends of its range, or what the user has fixed."""
        return _extremes(getattr(self, name))

    def default(self) -> Hyperparameters:
        """The default configuration, with weight decay at the lower end; it may lie outside this space."""
        return Hyperparameters(weight_decay=min(_extremes(self.weight_decay)))

    def dimension(self, name: str, point: Hyperparameters) -> Dimension:
        """Of a hyperparameter, where the others are as in `point`: an automatic learning rate's is its optimizer's."""
        return self._flat(name, {"optimizer": point.optimizer})[1]

    @staticmethod
    def within_limits(name: str, moved: float, end: float) -> float:
        """`moved`, or where a hyperparameter cannot have that value, one between it and `end`, which it can have."""
        schema = _VALUES[name].json_schema()
        limits = next((part for part in schema.get("anyOf", ()) if part.get("type") != "null"), schema)
        moved = min(max(moved, limits.get("minimum", -math.inf)), limits.get("maximum", math.inf))
        if not limits.get("exclusiveMinimum", -math.inf) < moved < limits.get("exclusiveMaximum", math.inf):
            limit = limits["exclusiveMinimum"] if moved < end else limits["exclusiveMaximum"]
            moved = (limit + end) / 2
        return moved

    def size(self) -> int | None:
        """The number of distinct points, or None where a dimension is continuous."""
        total = 0
        for activation, optimizer in itertools.product(_extremes(self.activation), _extremes(self.optimizer)):
            chosen = {"activation": activation, "optimizer": optimizer}
            points = 1
            for name in _ORDER:
                if name in chosen or (name in CONDITIONS and chosen[CONDITIONS[name][0]] != CONDITIONS[name][1]):
                    continue
                dimension = self._flat(name, chosen)[1]
                count = dimension.count() if isinstance(dimension, IntRange | FloatRange | Choice) else 1
                if count is None:
                    return None
                points *= count
            total += points
        return total

    def moving(self) -> list[str]:
        """The hyperparameters by which some point moves its training images, which takes images of two dimensions."""
        return [name for name in MOVING if any(_extremes(getattr(self, name)))]

    def varies(self, name: str) -> bool:
        """Whether the hyperparameter is searched, and not fixed by the user."""
        return getattr(self, name) == "auto" or len(set(_extremes(getattr(self, name)))) > 1

    def continuous(self) -> list[str]:
        """The dimensions that a grid cannot hold."""
        auto = ["learning_rate"] if self.learning_rate == "auto" else []
        ranges = {name: getattr(self, name) for name in _ORDER}
        return auto + [name for name, d in ranges.items() if isinstance(d, FloatRange) and d.count() is None]

    def _flat(self, name: str, point: Mapping[str, Any]) -> tuple[str, Dimension]:
        """Optuna's name and the dimension of a hyperparameter; an automatic learning rate belongs to its optimizer."""
        if name == "learning_rate" and self.learning_rate == "auto":
            return f"learning_rate_{point['optimizer']}", LEARNING_RATES[point["optimizer"]]
        return name, getattr(self, name)


_ORDER = ("depth", "width", "activation", "maxout_pieces", "batch_norm", "loss", "optimizer", "learning_rate", "momentum",
          "rmsprop_alpha", "dropout", "input_dropout", "shift_pixels", "rotate_degrees", "zoom",
          "batch_size", "weight_decay", "normalisation")  # fmt: skip


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    value: Any = Annotated[field.annotation, field]
    return TypeAdapter(value)


_VALUES = {name: _adapter(field) for name, field in Hyperparameters.model_fields.items()}
"""What each hyperparameter may be."""


def _choose(name: str, dimension: Dimension, given: Mapping[str, Value], default: Mapping[str, Value]) -> Any:
    """The given value; if there is none, the dimension's only one or the default. Raises InvalidInput where it lies outside."""
    fixed = not isinstance(dimension, IntRange | FloatRange | Choice)
    if name not in given and fixed:
        return dimension
    try:
        value = _VALUES[name].validate_python(given.get(name, default[name]))
    except ValidationError as error:
        raise _refused(name, f"{name}: {error.errors()[0]['msg']}, but got {given[name]!r}") from None
    if value == dimension if fixed else dimension.contains(value):  # type: ignore[union-attr]
        return value
    rule = f"{dimension!r}, as the study's space fixes it" if fixed else dimension.rule()  # type: ignore[union-attr]
    got = f"got {value!r}" if name in given else f"was not given, and the default configuration has {value!r}"
    raise _refused(name, f"{name} must be {rule}, but {got}")


def _refused(name: str, message: str) -> InvalidInput:
    return InvalidInput(message, ("hyperparameters", name))


def _extremes(dimension: Any) -> tuple[Any, ...]:
    return dimension.extremes() if isinstance(dimension, IntRange | FloatRange | Choice) else (dimension,)


class _Stored:
    """Answers `suggest_*` from stored parameters, as `optuna.trial.FixedTrial` does, without Optuna."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._params[name])

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._params[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._params[name]


class _Recorder:
    """Answers `suggest_*` from a point and records the flat names it was asked for."""

    def __init__(self, space: SearchSpace, point: Hyperparameters) -> None:
        self._space, self._point = space, point
        self.params: dict[str, Value] = {}
        self.inside = True

    def _answer(self, flat: str) -> Any:
        name = "learning_rate" if flat.startswith("learning_rate") else flat
        value = getattr(self._point, name)
        dimension = self._space._flat(name, {"optimizer": self._point.optimizer})[1]
        self.inside &= value is not None and dimension.contains(value)  # type: ignore[union-attr]
        self.params[flat] = value
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._answer(name))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._answer(name))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._answer(name)
