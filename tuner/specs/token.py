"""Who may do what: the roles, and the body of `POST /v1/tokens`."""

from enum import StrEnum

from pydantic import Field, field_validator

from tuner.specs.spec import Spec
from tuner.specs.study import Name

RESERVED_NAMES = ("anonymous", "token-file")
"""What the audit log calls those who have no token in the database."""


class Role(StrEnum):
    READER = "reader"
    """May read, predict and estimate."""

    OPERATOR = "operator"
    """May do everything."""


class TokenSpec(Spec):
    name: Name = Field(description="who uses it; the audit log tells it", examples=["ci"])
    role: Role
    expires_days: float | None = Field(None, gt=0, le=3650, description="null: it ends when it is revoked")

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise ValueError(f"a token's name must be none of {', '.join(RESERVED_NAMES)}, but got {name!r}")
        return name
