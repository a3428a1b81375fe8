"""What a drill holds against the service."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lost", "twice", "running", "stuck", "orphan", "fired", "differs", "other"]

HEADINGS: dict[Kind, str] = {
    "lost": "finished trials lost",
    "twice": "counted twice",
    "running": "left RUNNING",
    "stuck": "jobs stuck",
    "orphan": "orphan processes",
    "fired": "fired twice",
    "differs": "not bit for bit",
    "other": "other faults",
}


@dataclass(frozen=True)
class Finding:
    kind: Kind
    what: str


class Stuck(Exception):
    """Something that must happen did not, in many times the seconds that it takes."""


class Missing(Exception):
    """A drill cannot be done here: a program or a right is missing. `component` is its name in TUNER_REQUIRE."""

    def __init__(self, component: str, reason: str) -> None:
        super().__init__(reason)
        self.component = component
