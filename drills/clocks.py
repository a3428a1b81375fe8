"""The wall clock jumps by an hour, forth and back, while leases are held and schedules fire.

libfaketime stands between the service and its clock; what it says is read anew at each call from a file. The monotonic clock runs
on, as it does on a real machine whose clock is set.
"""

import time
from pathlib import Path

from sqlalchemy import text

from drills import studies
from drills.finding import Missing
from drills.postgres import use_postgres
from drills.schedules import count_fired, create, pause_all
from drills.site import Site
from drills.undisturbed import compare_trials

HOUR = 3600

RETAKEN = """
    SELECT study_name, fence FROM tuner_jobs JOIN studies USING (study_id) WHERE fence > 1
"""


def clock_jumps(site: Site) -> None:
    """Two services on one PostgreSQL, each with a clock of its own; in the short form one, on SQLite.

    No lease is lost by a jump, no due time fires twice.
    """
    library = _libfaketime()
    if not site.short:
        use_postgres(site)
    clocks = [site.folder / f"clock-{i}" for i in range(1 if site.short else 2)]
    for clock in clocks:
        _set(clock, 0)
    services = [site.serve(f"clock-{i}", _faked(library, clock)) for i, clock in enumerate(clocks)]
    create(services[0], "often", studies.tiny("often-{date}", site.random), interval_seconds=4, overlap="queue")
    create(services[-1], "minutely", studies.tiny("minutely-{date}", site.random), cron="* * * * *")
    services[0].post("/v1/studies", studies.long("beside", site.random, trials=2 if site.short else 8))
    hours = [0] * len(clocks)
    for _ in range(3 if site.short else 16):
        time.sleep(site.random.uniform(1, 3 if site.short else 9))
        at = site.random.randrange(len(clocks))
        hours[at] = site.random.choice([h for h in (-1, 0, 1) if h != hours[at]])
        _set(clocks[at], hours[at] * HOUR)
        site.fault(f"the clock of {services[at].name} jumps; it is {hours[at]:+} h wrong now")
    for clock in clocks:
        _set(clock, 0)
    pause_all(services[0])
    site.notes.append(f"{count_fired(site)} studies by schedule")
    site.wait_for_all_jobs()
    with site.engine.connect() as connection:
        for study, fence in connection.execute(text(RETAKEN)):
            site.find("other", f"the job of {study} was taken {fence} times, though no runner died")
    compare_trials(site)


def _libfaketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise Missing("faketime", "libfaketime is not installed")
    return found[0]


def _faked(library: Path, clock: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def _set(clock: Path, seconds: int) -> None:
    """At once and whole: a reader may come at any moment."""
    new = clock.with_suffix(".new")
    new.write_text(f"{seconds:+d}\n")
    new.rename(clock)
