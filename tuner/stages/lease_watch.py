"""Who has gone silent, by one process's own clock: no clocks need agree.

Whoever holds a lease raises its counter; a lease whose counter this watch has itself seen standing still for so long has ended.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

LOOKED_AWAY = 5.0
"""Seconds between two looks from which on all leases begin anew: a machine that slept, or a database that was away, has kept the
others from being heard, too."""


@dataclass(frozen=True)
class _Seen:
    counter: Hashable
    since: float


class LeaseWatch:
    """Of leases of so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[int, _Seen] = {}
        self._looked_at = 0.0

    def ended(self, counters: Mapping[int, Hashable], now: float) -> list[int]:
        """Whose counter stands still since `seconds`; `counters` has that of each open lease at the monotonic time `now`."""
        before = self._seen if now - self._looked_at < LOOKED_AWAY else {}
        self._seen, self._looked_at = {}, now
        for holder, counter in counters.items():
            known = before.get(holder)
            self._seen[holder] = known if known is not None and known.counter == counter else _Seen(counter, now)
        return [holder for holder, seen in self._seen.items() if now - seen.since >= self._seconds]
