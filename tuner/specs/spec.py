"""The base of every spec."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen value; an unknown field and a NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
