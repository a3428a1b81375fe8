"""Times as the tables hold them."""

from datetime import UTC, datetime


def now() -> str:
    """RFC 3339, UTC: `2026-11-23T09:10:11.123456Z`."""
    return rfc3339(datetime.now(UTC))


def rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> datetime:
    return datetime.fromisoformat(text)


def optuna_now() -> datetime:
    """Naive UTC, as Optuna 5 writes it into its tables."""
    return datetime.now(UTC).replace(tzinfo=None)


def from_optuna(time: datetime | None) -> datetime | None:
    """Naive local time, as Optuna's own objects hold it, from the table's naive UTC."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
