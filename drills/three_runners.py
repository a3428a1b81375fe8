"""Three services, one PostgreSQL, one data folder: studies and schedules go on whichever of the three is killed."""

import time

from drills import studies
from drills.kills import Killer, keep_busy
from drills.postgres import use_postgres
from drills.schedules import count_fired, create, pause_all
from drills.site import Site
from drills.studies import Spec
from drills.undisturbed import compare_trials, compare_with_twins


def three_runners(site: Site) -> None:
    use_postgres(site)
    services = [site.serve(name, {"TUNER_PARALLEL": "1"}) for name in ("first", "second", "third")]
    for name, overlap in (("skipping", "skip"), ("queueing", "queue")):
        spec = studies.tiny(f"{name}-{{date}}", site.random)
        create(services[0], name, spec, interval_seconds=4, overlap=overlap)
    killer, posted = Killer(site), list[Spec]()
    for _ in range(3 if site.short else 30):
        keep_busy(site, site.random.choice(services), posted, at_once=3)
        time.sleep(site.random.uniform(0.5, 4))
        killer.strike(site.random.choice(services))
    pause_all(services[0])
    site.wait_for_all_jobs()
    site.notes.append(f"{count_fired(site)} studies by schedule")
    compare_trials(site)
    if not site.short:
        compare_with_twins(site, [spec for spec in posted if spec["promotion"]][:2])
