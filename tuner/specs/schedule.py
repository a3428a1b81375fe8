"""A study that is to run again and again: the bodies of `POST /v1/schedules` and `PATCH /v1/schedules/{name}`."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tuner.specs.spec import Spec, left_out
from tuner.specs.study import Name, StudySpec
from tuner.specs.timing import Cron, Interval, TimeZone, Timing

DATE = "{date}"
MAX_NAME = 100


def _check_length(template: str) -> str:
    if (length := len(template.replace(DATE, "20260101-000000"))) > MAX_NAME:
        raise ValueError(f"a study's name may have {MAX_NAME} characters, but with its date this one has {length}")
    return template


TemplateName = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9]|\{date\})([A-Za-z0-9._-]|\{date\})*$", max_length=MAX_NAME, examples=["nightly-{date}"]
    ),
    AfterValidator(_check_length),
]


class StudyTemplate(StudySpec):
    """A study whose name may hold `{date}`: the due time in UTC as YYYYmmdd-HHMMSS, in which no hour comes twice."""

    name: TemplateName

    def at(self, fire_time: datetime) -> StudySpec:
        date = fire_time.astimezone(UTC).strftime("%Y%m%d-%H%M%S")
        return StudySpec.model_validate({**self.said(), "name": self.name.replace(DATE, date)})


Policy = Literal["new_study", "continue"]
Overlap = Literal["skip", "queue"]


Grace = Annotated[
    int, Field(ge=1, le=366 * 86_400, description="a due time that is older when a runner comes to it is missed")
]
Seeds = Annotated[
    int,
    Field(
        ge=2,
        le=20,
        description="nets trained of a new winner and of the champion each, on all training images, before the one may replace "
        "the other",
    ),
]


class ScheduleSpec(Timing):
    name: Name
    study: StudyTemplate
    policy: Policy = Field(
        "new_study",
        description="new_study: each firing makes a study. continue: the first makes it, each later one searches on in it, up to "
        "a total of the trials that it has and budget.n_trials",
    )
    overlap: Overlap = Field(
        "skip", description="what a firing does while an earlier one's job is unfinished: nothing, or wait for it"
    )
    misfire_grace_seconds: Grace = 300
    coalesce: bool = Field(True, description="of several due times that have gathered, only the newest fires")
    paused: bool = Field(False, description="due times pass by, and are not made up for")
    challenge_seeds: Seeds = 3

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        dated = DATE in self.study.name
        if self.policy == "new_study" and not dated:
            rule = f"with policy new_study each firing makes a study, so study.name must contain {DATE}"
            raise ValueError(f"{rule}, but got {self.study.name!r}")
        if self.policy == "continue" and dated:
            rule = f"with policy continue all firings work on one study, so study.name must not contain {DATE}"
            raise ValueError(f"{rule}, but got {self.study.name!r}")
        return self

    def edited(self, edit: "ScheduleEdit") -> "ScheduleSpec":
        """With what the edit names; cron takes the interval's place, and the other way round. Raises ValidationError."""
        changes = edit.model_dump(mode="json", exclude_unset=True)
        for given, replaced in (("cron", "interval_seconds"), ("interval_seconds", "cron")):
            if changes.get(given) is not None:
                changes.setdefault(replaced, None)
        return ScheduleSpec.model_validate({**self.said(), **changes})

    def said(self) -> dict[str, Any]:
        """As JSON, from which this spec comes back, with all that is left to the study's data."""
        return self.model_dump(mode="json", exclude={"study": self.study.left_to_data()})


class ScheduleEdit(Spec):
    """A field left out stays as it is; what comes of it is judged like a new schedule."""

    cron: Cron | None = Field(None, description="takes the interval's place", examples=["0 3 * * MON-FRI"])
    interval_seconds: Interval | None = Field(None, description="takes cron's place")
    time_zone: TimeZone = Field(default_factory=left_out)
    study: StudyTemplate = Field(default_factory=left_out, description="the whole of it")
    policy: Policy = Field(default_factory=left_out)
    overlap: Overlap = Field(default_factory=left_out)
    misfire_grace_seconds: Grace = Field(default_factory=left_out)
    coalesce: bool = Field(default_factory=left_out)
    paused: bool = Field(default_factory=left_out)
    challenge_seeds: Seeds = Field(default_factory=left_out)
