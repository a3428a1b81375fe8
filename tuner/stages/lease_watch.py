"""Who has gone silent, by one process's own clock: no clocks need agree.

Whoever holds a lease raises its counter; a lease whose counter this watch has itself seen standing still for so long has ended.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

LOOKED_AWAY = 2.0
"""Seconds that count at most between two looks: a machine that slept, or a database that was away, has kept the others from being
heard, too."""


@dataclass(frozen=True)
class _Seen:
    counter: Hashable
    silent: float = 0.0


class LeaseWatch:
    """Of leases of so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[int, _Seen] = {}
        self._looked_at = 0.0

    def ended(self, counters: Mapping[int, Hashable], now: float) -> list[int]:
        """Whose counter stands still since `seconds`; `counters` has that of each open lease at the monotonic time `now`."""
        before, watched = self._seen, min(now - self._looked_at, LOOKED_AWAY)
        self._seen, self._looked_at = {}, now
        for holder, counter in counters.items():
            known = before.get(holder)
            still = known is not None and known.counter == counter
            self._seen[holder] = _Seen(counter, known.silent + watched if known and still else 0.0)
        return [holder for holder, seen in self._seen.items() if seen.silent >= self._seconds]
