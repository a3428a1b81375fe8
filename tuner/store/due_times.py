"""What is to be done about a schedule's due times: a pure rule, to which the time is an argument.

Right after an outage, a suspend or a change of the clock: whatever the clock shows now, every due time from the one that was
waited for up to now is settled once, by firing or by being missed, and the next one lies ahead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from tuner.specs.schedule import ScheduleSpec

MAX_CATCH_UP = 1000
"""At most so many due times are caught up with, the newest; older ones are missed, whatever their grace."""

WRONG_CLOCK = timedelta(days=1)
"""A clock that was set back by less is waited for; by more, it had been wrong, and the schedule follows the new one."""


@dataclass(frozen=True)
class Settled:
    """A due time, and with it those from `since` on for which it stands; fired, or missed."""

    fire_time: datetime
    since: datetime
    missed: bool = False


def settle(spec: ScheduleSpec, waited_for: datetime, now: datetime) -> tuple[list[Settled], datetime]:
    """What becomes of the due times from `waited_for` to `now`, in their order, and the first due time after now.

    Missed is what is older than the grace. Of the others each fires, or if they coalesce only the newest, which then stands for
    the missed ones, too. All that are missed are one entry.
    """
    times = _newest(spec, waited_for, now, MAX_CATCH_UP + 1)
    grace = timedelta(seconds=spec.misfire_grace_seconds)
    in_time = [time for time in times[-MAX_CATCH_UP:] if now - time <= grace]
    missed = times[: len(times) - len(in_time)]
    following = next(spec.times_after(now, waited_for))
    if spec.coalesce and in_time:
        return [Settled(in_time[-1], waited_for)], following
    settled = [Settled(missed[-1], waited_for, missed=True)] if missed else []
    return settled + [Settled(time, time) for time in in_time], following


def nearer(spec: ScheduleSpec, waited_for: datetime, now: datetime) -> datetime | None:
    """The due time to wait for instead, where the one that is waited for comes from a clock that had been wrong."""
    following = next(spec.times_after(now, waited_for))
    return following if waited_for - following > WRONG_CLOCK else None


def _newest(spec: ScheduleSpec, since: datetime, until: datetime, limit: int) -> list[datetime]:
    """The newest due times from `since`, itself one, to `until`."""
    span = timedelta(hours=1)
    while (start := until - span) > since:  # CronSim runs backwards, too, but not always over the same times
        if len(times := _between(spec, start, until, since)) >= limit:
            return times[-limit:]
        span *= 4
    return [since, *_between(spec, since, until, since)][-limit:]


def _between(spec: ScheduleSpec, after: datetime, until: datetime, anchor: datetime) -> list[datetime]:
    times = []
    for time in spec.times_after(after, anchor):
        if time > until:
            break
        times.append(time)
    return times
