"""The space of an outside objective: whatever its owner wants to vary, with conditions.

`{"c": {"type": "categorical", "choices": ["a", "b"]}, "k": {"type": "int", "low": 1, "high": 9, "when": {"c": "a"}}}`: k is there
only where c is "a"; a list says several values, and several names must all hold.
"""

import math
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, RootModel, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from tuner.specs.search_space import MAX_GRID, FloatRange, IntRange, Suggests
from tuner.specs.spec import Spec

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
Point = tuple[tuple[str, Scalar], ...]
"""A configuration: names and values, in the order in which they were drawn."""

LARGEST_INT = 2**53
"""Optuna keeps every parameter as a float, which holds whole numbers up to here."""

MAX_DIMENSIONS = 100
MAX_CHOICES = 1000

Name = Annotated[str, Field(pattern=r"^[^\s/]{1,100}$")]
When = Mapping[Name, Scalar | tuple[Scalar, ...]]


class _Conditional(Spec):
    when: When = Field(default={}, description="there only where each of these has the value, or one of the values")

    def conditions(self) -> Iterator[tuple[str, tuple[Scalar, ...]]]:
        for name, wanted in self.when.items():
            yield name, wanted if isinstance(wanted, tuple) else (wanted,)

    def applies(self, point: Mapping[str, Scalar]) -> bool:
        return all(any(_same(point.get(name), value) for value in wanted) for name, wanted in self.conditions())


class OutsideFloat(FloatRange, _Conditional):
    type: Literal["float"]


class OutsideInt(IntRange, _Conditional):
    type: Literal["int"]
    low: int = Field(ge=-LARGEST_INT, le=LARGEST_INT)
    high: int = Field(ge=-LARGEST_INT, le=LARGEST_INT)


class OutsideChoice(_Conditional):
    type: Literal["categorical"]
    choices: tuple[Scalar, ...] = Field(min_length=1, max_length=MAX_CHOICES)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.choices)) < len(self.choices):  # Optuna compares them by ==, for which 1, 1.0 and true are one
            raise ValueError(f"choices must be distinct, but got {list(self.choices)}")
        return self

    def count(self) -> int:
        return len(self.choices)

    def contains(self, value: Any) -> bool:
        return any(_same(value, choice) for choice in self.choices)

    def draw(self, trial: Suggests, name: str) -> Scalar:
        return trial.suggest_categorical(name, self.choices)  # type: ignore[no-any-return]


OutsideDimension = Annotated[OutsideFloat | OutsideInt | OutsideChoice, Field(discriminator="type")]


class OutsideSpace(RootModel[Mapping[Name, OutsideDimension]]):
    """By name; at least one dimension. A condition names a dimension with choices or whole numbers, and goes in no circle."""

    model_config = {"frozen": True}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 1 <= len(self.root) <= MAX_DIMENSIONS:
            raise ValueError(f"a space must have 1 to {MAX_DIMENSIONS} dimensions, but got {len(self.root)}")
        for name, dimension in self.root.items():
            for other, wanted in dimension.conditions():
                self._check_condition(name, other, wanted)
        self.order()
        return self

    def _check_condition(self, name: str, other: str, wanted: tuple[Scalar, ...]) -> None:
        condition = self.root.get(other)
        if not isinstance(condition, OutsideInt | OutsideChoice):
            raise ValueError(f"{name}: when must name a dimension of choices or whole numbers, but got {other!r}")
        for value in wanted:
            if not _can_be(condition, value):
                raise ValueError(f"{name}: when must ask for what {other!r} can be, but got {value!r}")

    def order(self) -> tuple[str, ...]:
        """The names, each after those on which it depends."""
        graph = {name: [other for other, _ in dimension.conditions()] for name, dimension in self.root.items()}
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise ValueError(f"conditions must go in no circle, but got {' → '.join(error.args[1])}") from error

    def suggest(self, trial: Suggests) -> Point:
        """The point that `trial` stands for; a live trial is asked, a stored one answers from its parameters."""
        point: dict[str, Scalar] = {}
        for name in self.order():
            dimension = self.root[name]
            if dimension.applies(point):
                point[name] = dimension.draw(trial, name)
        return tuple(point.items())

    def restore(self, params: Mapping[str, Any]) -> Point:
        """The point whose parameters are `params`. Raises KeyError where one is missing."""
        point: dict[str, Scalar] = {}
        for name in self.order():
            if self.root[name].applies(point):
                point[name] = params[name]
        return tuple(point.items())

    def find(self, params: Mapping[str, Any]) -> Point | None:
        """As `restore`; None where `params` are no point of a space like this, as those of another program's trial can be."""
        try:
            return self.restore(params)
        except (KeyError, ValueError):
            return None

    def check(self, given: Mapping[str, Any]) -> dict[str, Scalar]:
        """`given` as parameters of this space. Raises ValueError that names the dimension and its rule."""
        point: dict[str, Scalar] = {}
        for name in self.order():
            dimension = self.root[name]
            if not dimension.applies(point):
                continue
            if name not in given:
                raise ValueError(f"{name} must be given: the space asks for it here")
            if not _can_be(dimension, given[name]):
                raise ValueError(
                    f"{name} must lie in {dimension.model_dump(exclude={'when'})}, but got {given[name]!r}"
                )
            point[name] = given[name]
        if unknown := sorted(set(given) - set(point)):
            raise ValueError(f"nothing else may be given, but got {', '.join(unknown)}")
        return point

    def size(self) -> int | None:
        """The number of distinct points; None where a dimension is continuous, or where the conditions are too many to count."""
        parents = [name for name in self.order() if any(name in d.when for d in self.root.values())]
        counts = {name: dimension.count() for name, dimension in self.root.items()}
        if None in counts.values() or math.prod(counts[name] or 1 for name in parents) > MAX_GRID:
            return None
        return sum(
            math.prod(counts[name] or 1 for name, d in self.root.items() if name not in chosen and d.applies(chosen))
            for chosen in self._combinations(parents)
        )

    def _combinations(self, parents: list[str]) -> Iterator[dict[str, Scalar]]:
        """Every way in which the dimensions that others depend on can be set; those that do not apply are left out."""
        seen = set()
        for values in product(*(_values(self.root[name]) for name in parents)):
            chosen: dict[str, Scalar] = {}
            for name, value in zip(parents, values, strict=True):
                if self.root[name].applies(chosen):
                    chosen[name] = value
            key = tuple(chosen.items())
            if key not in seen:
                seen.add(key)
                yield chosen

    def continuous(self) -> list[str]:
        """The dimensions that a grid cannot hold."""
        return [name for name, dimension in self.root.items() if dimension.count() is None]


def _values(dimension: OutsideFloat | OutsideInt | OutsideChoice) -> tuple[Scalar, ...] | range:
    match dimension:
        case OutsideChoice():
            return dimension.choices
        case OutsideInt():
            return range(dimension.low, dimension.high + 1, dimension.step)
        case OutsideFloat():
            raise TypeError("no condition names a dimension of floats")


def _can_be(dimension: OutsideFloat | OutsideInt | OutsideChoice, value: Any) -> bool:
    if isinstance(dimension, OutsideChoice):
        return dimension.contains(value)
    return isinstance(value, int | float) and not isinstance(value, bool) and dimension.contains(value)


def _same(a: Any, b: Any) -> bool:
    """Equal, and true is not 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
