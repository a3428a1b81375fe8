"""The wall clock jumps by an hour, forth and back, while leases are held and schedules fire.

The monotonic clock runs on, as it does on a real machine whose clock is set.
"""

import time

from sqlalchemy import text

from drills import studies
from drills.postgres import use_postgres
from drills.schedules import count_fired, create, pause_all
from drills.site import Site
from drills.undisturbed import compare_trials
from drills.wall_clock import WallClock

HOUR = 3600

RETAKEN = """
    SELECT study_name, fence FROM tuner_jobs JOIN studies USING (study_id) WHERE fence > 1
"""


def clock_jumps(site: Site) -> None:
    """Two services on one PostgreSQL, each with a clock of its own; in the short form one, on SQLite.

    No lease is lost by a jump, no due time fires twice.
    """
    if not site.short:
        use_postgres(site)
    clocks = [WallClock(site.folder, f"clock-{i}") for i in range(1 if site.short else 2)]
    services = [site.serve(f"serve-{i}", clock.settings) for i, clock in enumerate(clocks)]
    create(services[0], "often", studies.tiny("often-{date}", site.random), interval_seconds=4, overlap="queue")
    create(services[-1], "minutely", studies.tiny("minutely-{date}", site.random), cron="* * * * *")
    services[0].post("/v1/studies", studies.long("beside", site.random, trials=2 if site.short else 8))
    hours = [0] * len(clocks)
    for _ in range(3 if site.short else 16):
        time.sleep(site.random.uniform(1, 3 if site.short else 9))
        at = site.random.randrange(len(clocks))
        hours[at] = site.random.choice([h for h in (-1, 0, 1) if h != hours[at]])
        clocks[at].set(hours[at] * HOUR, services[at])
        site.fault(f"the clock of {services[at].name} jumps; it is {hours[at]:+} h wrong now")
    for clock, service in zip(clocks, services, strict=True):
        clock.set(0, service)
    pause_all(services[0])
    site.notes.append(f"{count_fired(site)} studies by schedule")
    site.wait_for_all_jobs()
    with site.engine.connect() as connection:
        for study, fence in connection.execute(text(RETAKEN)):
            site.find("other", f"the job of {study} was taken {fence} times, though no runner died")
    compare_trials(site)
