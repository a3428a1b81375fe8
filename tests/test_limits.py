"""How much one caller may ask for."""

from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from starlette.requests import Request

from api.limits import MAX_KEYS, Buckets, Streams, address_of
from tests.conftest import connect
from tests.test_access import make_token
from tuner.errors import LimitReached
from tuner.settings import Settings
from tuner.store.database import migrate, open_database


def taken(buckets: Buckets, key: str, now: float) -> bool:
    try:
        buckets.take(key, now)
    except LimitReached:
        return False
    return True


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60))
def test_a_bucket_holds_what_it_says(pauses: list[float]) -> None:
    """Whenever one asks, in no stretch of time does one get more than the burst and the rate allow; the wait that a refusal names
    is enough."""
    rate, burst, now, granted = 2.0, 3, 0.0, []
    buckets = Buckets("a few", rate, burst)
    for pause in pauses:
        now += pause
        try:
            buckets.take("a", now)
            granted.append(now)
        except LimitReached as reached:
            now += reached.retry_after + 1e-9
            assert taken(buckets, "a", now)
            granted.append(now)
    for first, start in enumerate(granted):
        for last, end in enumerate(granted[first:], first):
            assert last - first + 1 <= burst + rate * (end - start) + 1e-6


def test_keys_have_buckets_of_their_own_and_are_forgotten() -> None:
    """One caller's haste is nobody else's; the memory that keys take is bounded, and an exhausted key stays exhausted."""
    buckets = Buckets("a few", 1.0, 2)
    assert [taken(buckets, "a", 0.0) for _ in range(3)] == [True, True, False]
    assert taken(buckets, "b", 0.0)
    for number in range(MAX_KEYS):
        buckets.take(str(number), 10.0)
    assert [taken(buckets, "late", 10.0) for _ in range(3)] == [True, True, False]
    for number in range(MAX_KEYS):
        buckets.take(f"more-{number}", 10.5)
    assert not taken(buckets, "late", 10.5)
    assert len(buckets._buckets) <= 2 * MAX_KEYS + 1


def test_streams_are_counted_while_they_are_open() -> None:
    """One more than may be is refused, until one of them ends."""
    streams = Streams(2)
    with streams.opening("a"):
        with streams.opening("a"), streams.opening("b"), pytest.raises(LimitReached, match="at most 2 streams"):
            streams.opening("a").__enter__()
        with streams.opening("a"):
            pass


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_counts_as_its_subscriber(host: str, key: str) -> None:
    """Of IPv6, whoever has one address has 2^64 of them."""
    assert address_of(Request({"type": "http", "client": (host, 1)})) == key


def test_requests_over_the_rate_are_told_when_to_come_again(tmp_path: Path) -> None:
    """429 with Retry-After, for the token that asked so often and no other; a wrong token's requests count for its address; the
    health check is always answered."""
    settings = Settings(data_dir=tmp_path / "data", requests_per_second=0.1, requests_burst=3)
    engine: Engine = open_database(settings.database_url)
    migrate(engine)
    one, two = ({"Authorization": f"Bearer {make_token(engine, name)}"} for name in ("one", "two"))
    engine.dispose()
    with connect(settings) as api:

        def statuses(headers: dict[str, str], times: int) -> list[int]:
            return [api.get("/v1/whoami", headers=headers).status_code for _ in range(times)]

        assert statuses(one, 4) == [200, 200, 200, 429]
        assert statuses(two, 1) == [200]
        assert statuses({"Authorization": "Bearer guess"}, 4) == [401, 401, 401, 429]
        refused: httpx.Response = api.get("/v1/whoami", headers=one)
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert 1 <= int(refused.headers["Retry-After"]) <= 10
        assert [api.get("/healthz").status_code for _ in range(5)] == [200] * 5
