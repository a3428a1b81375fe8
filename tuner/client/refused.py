"""What a call can come to instead of an answer."""

import httpx
from pydantic import BaseModel, ValidationError

from tuner.errors import TunerError


class NoAnswer(TunerError):
    """Nothing answers at the address, or not in time."""


class Refused(TunerError):
    """The service answered, and the answer is a problem (RFC 9457); its message is one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _FieldError(BaseModel):
    loc: list[str | int]
    msg: str


class _Problem(BaseModel):
    title: str
    detail: str = ""
    errors: list[_FieldError] | None = None


def refusal(response: httpx.Response) -> Refused:
    """Title, detail and the fields at fault, each said once."""
    try:
        problem = _Problem.model_validate_json(response.content)
    except ValidationError:  # no problem+json: a proxy on the way, or another program at this address
        problem = _Problem(title=f"{response.status_code} {response.reason_phrase}", detail=response.text[:200].strip())
    message = ": ".join(filter(None, (problem.title, problem.detail)))
    for field in problem.errors or ():
        where = ".".join(map(str, field.loc))
        if field.msg not in problem.detail:
            message += f"; {where}: {field.msg}"
        elif where not in problem.detail:
            message += f" (at {where})"
    return Refused(response.status_code, " ".join(message.split()))
