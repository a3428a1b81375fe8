"""How much one caller may ask for: requests by token buckets, open streams by a count. In the memory of one API process."""

import ipaddress
import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from tuner.errors import LimitReached
from tuner.settings import Settings

MAX_KEYS = 10_000
"""Above so many, those that have rested long enough to be as good as new are forgotten."""


class Buckets:
    """A token bucket for each key: `burst` things at once, and `per_second` in the long run."""

    def __init__(self, what: str, per_second: float, burst: int) -> None:
        self._what, self._per_second, self._burst = what, per_second, burst
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted
        self._forget_above = MAX_KEYS

    def take(self, key: str, now: float) -> None:
        """One thing more of this key's, at `now` seconds. Raises LimitReached, with the time to wait, where there is no room."""
        tokens, counted_at = self._buckets.get(key, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - counted_at) * self._per_second)
        if tokens < 1:
            wait = (1 - tokens) / self._per_second
            raise LimitReached(f"{self._what}; try again in {math.ceil(wait)} s", wait)
        self._buckets[key] = tokens - 1, now
        if len(self._buckets) > self._forget_above:
            self._forget(now)

    def _forget(self, now: float) -> None:
        full_after = self._burst / self._per_second
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if now - bucket[1] < full_after}
        self._forget_above = max(MAX_KEYS, 2 * len(self._buckets))


class Streams:
    """How many streams each key has open; one that ends makes room again."""

    def __init__(self, maximum: int) -> None:
        self._maximum, self._open, self._lock = maximum, Counter[str](), threading.Lock()

    @contextmanager
    def opening(self, key: str) -> Iterator[None]:
        """A stream of this key's is open for the block. Raises LimitReached where as many are open as may be."""
        with self._lock:
            if self._open[key] >= self._maximum:
                raise LimitReached(
                    f"at most {self._maximum} streams may be open at once for one caller; close another", 5
                )
            self._open[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]


class Limits:
    """Of one API process."""

    def __init__(self, settings: Settings) -> None:
        rate, burst, logins = settings.requests_per_second, settings.requests_burst, settings.logins_per_minute
        self.requests = Buckets(f"at most {rate:g} requests a second, {burst} at once, from one caller", rate, burst)
        self.logins = Buckets(f"at most {logins} logins a minute from one address", logins / 60, logins)
        self.streams = Streams(settings.max_streams)


def address_of(request: Request) -> str:
    """The client's address; of IPv6 the network of one subscriber, who has 2^64 addresses in it."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host
