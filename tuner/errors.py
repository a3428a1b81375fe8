"""What can go wrong, in the service's own words.

    TunerError
    ├── NotFound          no such study, trial, job, model, data set
    ├── Conflict          a name taken, a state that does not allow the call
    ├── InvalidInput      a value that breaks a rule; names the field
    ├── DamagedData       a file whose content or checksum is wrong
    ├── Unavailable       the database or the disk cannot be used now
    ├── LimitReached      more than one caller may ask for at a time
    ├── TestSetSealed     a further opening of a sealed test set
    └── LeaseLost         another runner owns the job

Messages name the rule and the value. Whoever raises knows no HTTP; `api/problems.py` holds the one table of status codes.
"""

from typing import Literal


class TunerError(Exception):
    """Every error that the service raises on purpose."""


class NotFound(TunerError):
    pass


class Conflict(TunerError):
    pass


class InvalidInput(TunerError):
    """A value breaks a rule that only the data or the database knows; `loc` is the field's path in the request's part `where`."""

    def __init__(self, message: str, loc: tuple[str | int, ...] = (), where: Literal["body", "query"] = "body") -> None:
        super().__init__(message)
        self.loc, self.where = loc, where


class DamagedData(TunerError):
    pass


class Unavailable(TunerError):
    pass


class LimitReached(TunerError):
    """To be tried again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TestSetSealed(TunerError):
    __test__ = False  # pytest would take the name for a test class


class LeaseLost(TunerError):
    pass
