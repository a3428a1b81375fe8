"""A trial of an earlier study, as it informs the sampler of a later one."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from tuner.specs.search_space import Value
from tuner.specs.spec import Spec


class EarlierTrial(Spec):
    study: str = Field(description="its name when the later study was posted")
    number: int
    state: Literal["COMPLETE", "PRUNED"]
    params: Mapping[str, Value] = Field(description="as Optuna names them in the later study's space")
    values: tuple[float, ...] | None = Field(description="of each objective; null of a pruned trial that has none")
    reports: Mapping[int, float] = Field(description="by epoch; empty of a diverged one, which so ranks last")
