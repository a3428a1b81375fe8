"""Milliseconds of REST calls while a study trains on both cores, and what they take from the study.

    pip install -e '.[dev]' -c constraints.txt
    python -m benchmarks.load

`tuner serve` trains nets of one size while calls arrive at a fixed rate, over 80 kept connections, and 20 more, opened before,
follow the study's events. The load is open: a call is due at its time by the clock, whether or not others have been answered,
and its latency counts from then. The study's epochs are counted in a loaded window and in quiet ones of half its length before
and after it, so that what drifts counts for both. This process, which makes the calls, takes its time from the same cores, and
says how much.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.bookkeeping import Bookkeeping
from tests.serving import Service, serving, wait_for
from tuner.settings import Settings
from tuner.store import events
from tuner.store.database import migrate, open_database, reading
from tuner.store.studies import find_study

STUDY = "load"
ROUTES = {
    "status": f"/v1/studies/{STUDY}",
    "best": f"/v1/studies/{STUDY}/best",
    "trials": f"/v1/studies/{STUDY}/trials?sort=-value&limit=50",
    "list": "/v1/studies?limit=50",
}
SETTLE_SECONDS = 10.0
"""After the study's start: its workers are up, and there are trials to be listed."""

OLDER = 60
"""Studies of six trials that are there before it, so that a list is a full page."""


def study() -> dict[str, Any]:
    """Nets of one size, so that equal times hold equal work; it ends when the benchmark does."""
    space = {"depth": 3, "width": 256, "activation": "relu", "optimizer": "adam", "batch_size": 64, "shift_pixels": 1}
    body = {"name": STUDY, "search_space": space, "sampler": {"kind": "random"}, "pruner": {"kind": "none"}}
    return {**body, "budget": {"n_trials": 100_000}, "promotion": None}


@dataclass
class Seen:
    """What came of one loaded window."""

    milliseconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    streamed: int = 0


class Connection:
    """One kept connection, over which calls go one after the other."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self, path: str) -> tuple[int, asyncio.StreamReader, int]:
        """Status, body and length of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, _, length = head.partition(b"content-length:")
        return int(head[9:12]), reader, int(length.split(b"\r\n", 1)[0] or 0)

    async def ask(self, path: str) -> int:
        """The status; the answer is read whole."""
        status, reader, length = await self.open(path)
        await reader.readexactly(length)
        return status

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def load(service: Service, rate: float, connections: int, streams: int, seconds: float) -> Seen:
    """Calls at `rate` a second for so long, over all but `streams` of the connections."""
    address = urlsplit(service.url)
    assert address.hostname is not None
    assert address.port is not None
    seen, idle = Seen(), asyncio.Queue[Connection]()
    for _ in range(connections - streams):
        idle.put_nowait(Connection(address.hostname, address.port))
    streaming = [Connection(address.hostname, address.port) for _ in range(streams)]
    opened = [await connection.open(f"/v1/studies/{STUDY}/events") for connection in streaming]
    following = [asyncio.create_task(follow(status, reader, seen)) for status, reader, _ in opened]
    calls, began = [], time.perf_counter()
    for number, name in zip(range(round(rate * seconds)), itertools.cycle(ROUTES), strict=False):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        calls.append(asyncio.create_task(call(idle, name, due, seen)))
    await asyncio.gather(*calls)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    for connection in [*streaming, *(idle.get_nowait() for _ in range(idle.qsize()))]:
        connection.close()
    return seen


async def call(idle: asyncio.Queue[Connection], name: str, due: float, seen: Seen) -> None:
    connection = await idle.get()
    try:
        status = await connection.ask(ROUTES[name])
        if status != 200:
            seen.errors.append(f"{name}: {status}")
    except (OSError, EOFError, ValueError) as error:
        connection.close()
        seen.errors.append(f"{name}: {error!r}")
    seen.milliseconds[name].append(1000 * (time.perf_counter() - due))
    idle.put_nowait(connection)


async def follow(status: int, reader: asyncio.StreamReader, seen: Seen) -> None:
    try:
        while status == 200 and (line := await reader.readline()):
            seen.streamed += line.startswith(b"data:")
        seen.errors.append(f"events: {status}, and the stream ended")
    except (OSError, EOFError, ValueError) as error:
        seen.errors.append(f"events: {error!r}")


@dataclass(frozen=True)
class Window:
    """A time of the study, by the clock, and the CPU seconds that processes took in it."""

    began: float
    ended: float
    cpu: dict[str, float]

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Meter:
    """A context that takes a window of the service: `window` is there afterwards."""

    window: Window

    def __init__(self, service: Service) -> None:
        self._processes = {
            "API": psutil.Process(service.pid_of("API")),
            "runner": psutil.Process(service.pid_of("runner")),
            "load generator": psutil.Process(),
        }

    def __enter__(self) -> "Meter":
        self._began, self._cpu = time.time(), self._take()
        return self

    def __exit__(self, *_: object) -> None:
        cpu = {name: seconds - self._cpu[name] for name, seconds in self._take().items()}
        self.window = Window(self._began, time.time(), cpu)

    def _take(self) -> dict[str, float]:
        taken = {name: process.cpu_times() for name, process in self._processes.items()}
        return {name: times.user + times.system for name, times in taken.items()}


def fill(settings: Settings) -> None:
    engine = open_database(settings.database_url)
    migrate(engine)
    for number in range(OLDER):
        older = Bookkeeping(engine, f"older-{number}", 6)
        for _ in range(6):
            older.trial(reports_apart=False)
        older.end()
    engine.dispose()


def epochs(settings: Settings) -> list[float]:
    """When each epoch of the study ended, by its events."""
    engine = open_database(settings.database_url)
    with reading(engine) as connection:
        found = find_study(connection, STUDY)
        assert found is not None
        told = events.of_study(connection, found.id, 0, 10_000_000)
    engine.dispose()
    return [datetime.fromisoformat(event.at).timestamp() for event in told if event.kind == "epoch"]


def rate_in(ends: Sequence[float], windows: Sequence[Window]) -> float:
    """Epochs a second."""
    count = sum(window.began <= end < window.ended for window in windows for end in ends)
    return count / sum(window.seconds for window in windows)


def report(ends: Sequence[float], pairs: Sequence[tuple[Seen, Window, Sequence[Window]]]) -> None:
    print("| | calls | p50 | p95 | p99 | longest, ms |\n|---|---|---|---|---|---|")
    for name in [*ROUTES, "all"]:
        times = [
            t for seen, _, _ in pairs for key, kept in seen.milliseconds.items() if name in (key, "all") for t in kept
        ]
        cuts = statistics.quantiles(times, n=100)
        print(f"| {name} | {len(times)} | {cuts[49]:.1f} | {cuts[94]:.1f} | {cuts[98]:.1f} | {max(times):.1f} |")
    errors = [error for seen, _, _ in pairs for error in seen.errors]
    print(f"\n{len(errors)} errors{': ' if errors else ''}{'; '.join(errors[:5])}")
    for seen, loaded, quiet in pairs:
        with_load, without = rate_in(ends, [loaded]), rate_in(ends, quiet)
        change = 100 * (with_load / without - 1)
        cpu = ", ".join(f"{name} {100 * taken / loaded.seconds:.1f} %" for name, taken in loaded.cpu.items())
        idle = {name: sum(w.cpu[name] for w in quiet) / sum(w.seconds for w in quiet) for name in loaded.cpu}
        alone = ", ".join(f"{name} {100 * taken:.1f} %" for name, taken in idle.items())
        print(
            f"{with_load:.2f} epochs/s with load, {without:.2f} without: {change:+.1f} %; {seen.streamed} events streamed; "
            f"of one core with load: {cpu}; without: {alone}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="milliseconds of REST calls while a study trains")
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--streams", type=int, default=20, help="of the connections, those that follow events")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a loaded window")
    parser.add_argument("--pairs", type=int, default=1, help="loaded windows, each with its quiet ones")
    arguments = parser.parse_args()
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data")
        fill(settings)
        with serving(settings.data_dir) as service:
            service.post("/v1/studies", study())
            wait_for(lambda: service.get(ROUTES["best"])["items"], "a trial ends", 60)
            time.sleep(SETTLE_SECONDS)
            for _ in range(arguments.pairs):
                with Meter(service) as before:
                    time.sleep(arguments.seconds / 2)
                with Meter(service) as during:
                    seen = asyncio.run(
                        load(service, arguments.rate, arguments.connections, arguments.streams, arguments.seconds)
                    )
                with Meter(service) as after:
                    time.sleep(arguments.seconds / 2)
                pairs.append((seen, during.window, (before.window, after.window)))
        ends = epochs(settings)
    report(ends, pairs)


if __name__ == "__main__":
    main()
