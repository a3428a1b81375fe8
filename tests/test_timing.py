"""When a schedule is due, by tables: nothing here reads a clock."""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from pydantic import ValidationError

from tuner.specs.schedule import ScheduleEdit, ScheduleSpec
from tuner.specs.timing import Timing
from tuner.store.due_times import MAX_CATCH_UP, Settled, nearer, settle


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def schedule(**changes: Any) -> ScheduleSpec:
    """Hourly, in UTC."""
    hourly: dict[str, Any] = {"name": "s", "cron": "0 * * * *", "study": {"name": "s-{date}"}}
    return ScheduleSpec.model_validate({**hourly, **changes})


BERLIN_SPRING, BERLIN_AUTUMN = "2026-03-29T00:00", "2026-10-25T00:00"
"""01:00 local time in winter and 02:00 in summer; at 01:00 UTC the clocks change."""


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # A fixed time is due once a day: after the gap, and in the first of two equal hours.
        ("30 2 * * *", "Europe/Berlin", BERLIN_SPRING, ["2026-03-29T01:00", "2026-03-30T00:30"]),
        ("30 2 * * *", "Europe/Berlin", BERLIN_AUTUMN, ["2026-10-25T00:30", "2026-10-26T01:30"]),
        # Asked in the second 02:15, the first 02:30 is over.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15", ["2026-10-26T01:30"]),
        (
            "0,30 2,3 * * *",
            "Europe/Berlin",
            BERLIN_SPRING,
            ["2026-03-29T01:00", "2026-03-29T01:30", "2026-03-30T00:00"],
        ),
        # Wildcards follow the hours that pass: no half hour is left out, none is doubled.
        (
            "*/30 * * * *",
            "Europe/Berlin",
            BERLIN_SPRING,
            ["2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30", "2026-03-29T02:00"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            BERLIN_AUTUMN,
            ["2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00"],
        ),
        ("30 2 * * *", "America/New_York", "2026-03-08T06:00", ["2026-03-08T07:00", "2026-03-09T06:30"]),
        ("30 1 * * *", "America/New_York", "2026-11-01T05:00", ["2026-11-01T05:30", "2026-11-02T06:30"]),
        # Lord Howe Island moves by half an hour, Havana at midnight.
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T14:00", ["2026-04-04T14:45", "2026-04-05T15:15"]),
        ("15 0 * * *", "America/Havana", "2026-03-08T04:00", ["2026-03-08T05:00", "2026-03-09T04:15"]),
        ("0 9 * * MON-FRI", "Asia/Kathmandu", "2026-01-02T12:00", ["2026-01-05T03:15"]),
        ("0 0 * * 0", "UTC", "2026-01-01T00:00", ["2026-01-04T00:00"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0 12 L * *", "UTC", "2026-02-01T00:00", ["2026-02-28T12:00", "2026-03-31T12:00"]),
    ],
)
def test_cron_in_its_zone(cron: str, zone: str, after: str, expected: list[str]) -> None:
    """Each due time of a calendar's day comes once, also where the clocks change."""
    times = Timing(cron=cron, time_zone=zone).times_after(at(after), at(after))
    assert list(islice(times, len(expected))) == [at(time) for time in expected]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "America/Havana", "Africa/Casablanca"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "15 1,2,3 * * *", "*/7 * * * *", "5 */2 * * *", "*/20 0-4 * * *"])
def test_the_next_time_is_the_same_whenever_it_is_asked(cron: str, zone: str) -> None:
    """Around a change of the clocks: asked at any moment, the next due time is the first of one list that is later, so no
    restart and no second runner sees another one."""
    timing = Timing(cron=cron, time_zone=zone)
    for change in ("2026-02-15", "2026-03-08", "2026-03-22", "2026-03-29", "2026-10-25", "2026-11-01"):
        start = at(change) - timedelta(hours=3)
        times = list(islice(timing.times_after(start, start), 150))
        assert times == sorted(set(times))
        for minutes in range(0, 12 * 60, 17):
            moment = start + timedelta(minutes=minutes)
            assert timing.first_after(moment) == next(time for time in times if time > moment)


def test_an_interval_is_counted_from_the_full_second() -> None:
    """The first time is an interval away, and later ones stay in step whenever they are asked for."""
    timing = Timing(interval_seconds=4)
    first = timing.first_after(at("2026-01-01T00:00:00.900"))
    assert first == at("2026-01-01T00:00:04")
    assert next(timing.times_after(at("2026-01-01T00:00:09"), first)) == at("2026-01-01T00:00:12")
    assert next(timing.times_after(at("2026-01-01T00:00:08"), first)) == at("2026-01-01T00:00:12")
    assert next(timing.times_after(at("2025-12-31T23:59:59"), first)) == at("2026-01-01T00:00:00")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cron": "0 0 31 2 *"}, "'0 0 31 2 *'"),
        ({"cron": "0 0 31 4,6,9,11 *"}, "can come true"),
        ({"cron": "0 0 */16 * MON#5"}, "within 50 years"),
        ({"cron": "nonsense"}, "five fields, but got 1"),
        ({"cron": "* * * * * *"}, "five fields, but got 6"),
        ({"cron": "60 * * * *"}, "Bad minute"),
        ({"cron": "0 0 * * 8"}, "Bad day-of-week"),
        ({"cron": None}, "got neither"),
        ({"interval_seconds": 60}, "['cron', 'interval_seconds']"),
        ({"cron": None, "interval_seconds": 0}, "greater than or equal to 1"),
        ({"time_zone": "Mars/Base"}, "'Mars/Base'"),
        ({"time_zone": "Europe"}, "'Europe'"),
        ({"time_zone": "../UTC"}, "'../UTC'"),
        ({"time_zone": ""}, "''"),
        ({"study": {"name": "s"}}, "must contain {date}, but got 's'"),
        ({"policy": "continue"}, "must not contain {date}"),
        ({"study": {"name": "-{date}"}}, "match pattern"),
        ({"study": {"name": "{Date}"}}, "match pattern"),
        ({"study": {"name": "s" * 90 + "{date}"}}, "may have 100 characters, but with its date this one has 105"),
        ({"misfire_grace_seconds": 0}, "greater than or equal to 1"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    """The refusal names the rule and the value."""
    with pytest.raises(ValidationError, match=re.escape(message)):
        schedule(**changes)


def test_the_date_in_a_studys_name_is_utc() -> None:
    """So the hour that comes twice on a zone's clocks makes two names."""
    study = schedule(time_zone="Europe/Berlin", study={"name": "n.{date}", "seed": 7}).study
    names = [study.at(at(time)).name for time in ("2026-10-25T00:30", "2026-10-25T01:30")]
    assert names == ["n.20261025-003000", "n.20261025-013000"]
    assert study.at(at("2026-10-25T00:30")).seed == 7


def test_an_edit_changes_what_it_names() -> None:
    """Cron takes the interval's place and the other way round; what comes of it is judged as a whole."""
    hourly = schedule(time_zone="Europe/Berlin", coalesce=False)
    edited = hourly.edited(ScheduleEdit(interval_seconds=60))
    assert (edited.interval_seconds, edited.cron, edited.time_zone, edited.coalesce) == (
        60,
        None,
        "Europe/Berlin",
        False,
    )
    assert edited.edited(ScheduleEdit(cron="0 * * * *")) == hourly
    with pytest.raises(ValidationError, match="must not contain"):
        hourly.edited(ScheduleEdit(policy="continue"))
    with pytest.raises(ValidationError, match="paused"):
        ScheduleEdit(paused=None)


NOON, ONE = at("2026-06-01T12:00"), at("2026-06-01T13:00")
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("changes", "now", "settled", "following"),
    [
        ({}, NOON, [Settled(NOON, NOON)], ONE),
        ({}, NOON + 300 * SECOND, [Settled(NOON, NOON)], ONE),
        ({}, NOON + 301 * SECOND, [Settled(NOON, NOON, missed=True)], ONE),
        # Ten hours and a moment of outage, or a clock that was set forward by as much.
        ({}, NOON + 10 * HOUR + SECOND, [Settled(NOON + 10 * HOUR, NOON)], NOON + 11 * HOUR),
        ({}, NOON + 10.5 * HOUR, [Settled(NOON + 10 * HOUR, NOON, missed=True)], NOON + 11 * HOUR),
        (
            {"misfire_grace_seconds": 7200, "coalesce": False},
            NOON + 10 * HOUR + SECOND,
            [
                Settled(NOON + 8 * HOUR, NOON, missed=True),
                *(Settled(t, t) for t in (NOON + 9 * HOUR, NOON + 10 * HOUR)),
            ],
            NOON + 11 * HOUR,
        ),
        (
            {"misfire_grace_seconds": 86400, "coalesce": False},
            NOON + 2 * HOUR,
            [Settled(t, t) for t in (NOON, NOON + HOUR, NOON + 2 * HOUR)],
            NOON + 3 * HOUR,
        ),
        (
            {"cron": None, "interval_seconds": 4, "coalesce": False, "misfire_grace_seconds": 8},
            NOON + 21 * SECOND,
            [
                Settled(NOON + 12 * SECOND, NOON, missed=True),
                *(Settled(t, t) for t in (NOON + 16 * SECOND, NOON + 20 * SECOND)),
            ],
            NOON + 24 * SECOND,
        ),
        (
            {"cron": None, "interval_seconds": 4},
            NOON + 9000 * SECOND,
            [Settled(NOON + 9000 * SECOND, NOON)],
            NOON + 9004 * SECOND,
        ),
        # The newest of three nights.
        (
            {"cron": "30 2 * * *", "time_zone": "Europe/Berlin", "misfire_grace_seconds": 86400},
            at("2026-06-03T08:00"),
            [Settled(at("2026-06-03T00:30"), NOON)],
            at("2026-06-04T00:30"),
        ),
    ],
)
def test_what_becomes_of_due_times(
    changes: dict[str, Any], now: datetime, settled: list[Settled], following: datetime
) -> None:
    """The time that was waited for is noon. Every due time since is settled, and the next one lies ahead."""
    assert settle(schedule(**changes), NOON, now) == (settled, following)


@pytest.mark.parametrize("interval", [{"cron": "* * * * *"}, {"cron": None, "interval_seconds": 60}])
def test_catching_up_is_bounded(interval: dict[str, Any]) -> None:
    """After a year's outage without coalescing the newest 1000 fire, at once; the half million before them are missed."""
    spec = schedule(**interval, coalesce=False, misfire_grace_seconds=366 * 86_400)
    now = NOON + 365 * 24 * HOUR
    [missed, *fired], following = settle(spec, NOON, now)
    assert len(fired) == MAX_CATCH_UP
    assert (fired[-1].fire_time, following) == (now, now + 60 * SECOND)
    assert missed == Settled(fired[0].fire_time - 60 * SECOND, NOON, missed=True)


@pytest.mark.parametrize(
    ("changes", "waited_for", "now", "expected"),
    [
        ({}, ONE, NOON, None),
        # Set back by an hour: the clock catches up.
        ({}, NOON + 2 * HOUR, NOON - 0.5 * HOUR, None),
        ({"cron": None, "interval_seconds": 4}, NOON + HOUR, NOON, None),
        # A wrong clock had shown the year 2036.
        ({}, at("2036-06-01T12:00"), NOON, ONE),
        ({"cron": None, "interval_seconds": 60}, at("2036-06-01T12:00:30"), NOON, NOON + 30 * SECOND),
        # Nothing is wrong with a time that is far because the schedule is a rare one.
        ({"cron": "0 0 29 2 *"}, at("2028-02-29T00:00"), NOON, None),
        ({"cron": None, "interval_seconds": 864_000}, NOON + 240 * HOUR, NOON, None),
    ],
)
def test_a_time_of_a_wrong_clock_is_not_waited_for(
    changes: dict[str, Any], waited_for: datetime, now: datetime, expected: datetime | None
) -> None:
    """Where the next due time by this clock is over a day nearer than the one waited for, that one is taken."""
    assert nearer(schedule(**changes), waited_for, now) == expected
