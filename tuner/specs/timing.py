"""When something is due, again and again. Nothing here reads a clock: times come in as arguments and are in UTC."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from tuner.specs.spec import Spec

TEN_YEARS = 10 * 366 * 86_400
ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


Cron = Annotated[
    str,
    Field(
        max_length=200,
        description="five fields: minute, hour, day of month, month, day of week (0 and 7: Sunday)",
        examples=["30 2 * * *"],
    ),
]
Interval = Annotated[int, Field(ge=1, le=TEN_YEARS, examples=[3600])]
TimeZone = Annotated[str, Field(max_length=100, description="cron's, by its IANA name", examples=["Europe/Berlin"])]


class Timing(Spec):
    """By cron in a time zone, or in even intervals.

    Cron goes as Debian's does through a change of the clocks: a fixed time that is skipped is due right after the gap, one that
    comes twice is due once, and wildcards in minutes or hours follow the hours that really pass. Intervals know no zone.
    """

    cron: Cron | None = None
    interval_seconds: Interval | None = None
    time_zone: TimeZone = "UTC"

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, cron: str | None) -> str | None:
        if cron is None:
            return None
        if (fields := len(cron.split())) != 5:
            raise ValueError(f"cron must have five fields, but got {fields} in {cron!r}")
        try:
            possible = next(CronSim(cron, ANY_TIME), None)
        except CronSimError as error:
            raise ValueError(f"cron must be an expression that can come true, but got {cron!r} ({error})") from error
        if possible is None:
            raise ValueError(f"cron must come true within 50 years, but got {cron!r}")
        return cron

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder of zones
            raise ValueError(f"time_zone must be a name of the IANA database, but got {name!r}") from error
        return name

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        given = [name for name in ("cron", "interval_seconds") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of cron and interval_seconds must be given, but got {given or 'neither'}")
        return self

    def is_same(self, other: "Timing") -> bool:
        return all(getattr(self, name) == getattr(other, name) for name in Timing.model_fields)

    def first_after(self, now: datetime) -> datetime:
        """When it is first due, if it begins now: an interval is counted from the full second."""
        return next(self.times_after(now, now.replace(microsecond=0)))

    def times_after(self, time: datetime, anchor: datetime) -> Iterator[datetime]:
        """The due times after `time`, without end; intervals are counted from `anchor`, before or after it."""
        if self.cron is not None:
            return _cron_times(self.cron, ZoneInfo(self.time_zone), time)
        assert self.interval_seconds is not None
        return _even_times(timedelta(seconds=self.interval_seconds), time, anchor)


def _cron_times(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    for local in CronSim(cron, after.astimezone(zone)):
        time = local.astimezone(UTC)
        # Where an hour comes twice and `after` lies in the second, CronSim begins with the first.
        if time > after:
            yield time


def _even_times(step: timedelta, after: datetime, anchor: datetime) -> Iterator[datetime]:
    time = anchor + step * ((after - anchor) // step + 1)
    while True:
        yield time
        time += step
