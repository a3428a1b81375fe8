"""kill -9 at random moments: workers, fork servers, runners, APIs, whole services, over several studies that run at once."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import text

from drills import studies
from drills.service import Role, Service
from drills.site import Site, send_kill
from drills.studies import Spec
from drills.undisturbed import compare_trials, compare_with_twins

Target = Literal["worker", "fork server", "runner", "API", "service", "everything"]

WEIGHTS: dict[Target, int] = {
    "worker": 6,
    "fork server": 1,
    "runner": 3,
    "API": 3,
    "service": 2,
    "everything": 1,
}

MOST_LOSSES = 2
"""A trial or run that has lost three workers fails, and so does a job that has lost five runners without getting on: both are the
service's rule, and not what is looked for here. So what is being trained is spared after two losses, and after two lost runners
something must get done before the next one."""

OPEN = """
    SELECT 'trial ' || trial_id FROM tuner_attempts WHERE ended_at IS NULL
    UNION ALL SELECT 'run ' || id FROM tuner_runs WHERE state = 'running'
"""

DONE = """
    SELECT (SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')) +
           (SELECT count(*) FROM tuner_runs WHERE state = 'complete')
"""


@dataclass
class Killer:
    """Kills something of a service at random; what must be started again is started again."""

    site: Site
    _done: int = 0
    _runners_lost: int = 0
    _workers_lost: Counter[str] = field(default_factory=Counter)
    """At most, by trial or run: whose worker was killed is not known."""

    def strike(self, service: Service) -> None:
        target = self._choose()
        match target:
            case "service" | "everything":
                self.site.kill(service) if target == "service" else self.site.kill_everything(service)
                self.site.fault(f"kill -9 of {service.name}: {target}")
                time.sleep(self.site.random.uniform(0, 1))
                service.start()
            case _:
                self._strike_process(service, target)

    def _strike_process(self, service: Service, role: Role) -> None:
        while not (found := service.of_role(role)) or not send_kill(process := self.site.random.choice(found)):
            time.sleep(0.05)  # the last one's successor is not there yet
        self.site.fault(f"kill -9 of {service.name}: {role} {process.pid}")

    def _choose(self) -> Target:
        target = self.site.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if target == "API":
            return target
        spared = self._spares_workers() if target in ("worker", "fork server") else self._spares_runner()
        return "API" if spared else target

    def _spares_workers(self) -> bool:
        with self.site.engine.connect() as connection:
            under_way = list(connection.execute(text(OPEN)).scalars())
        if any(self._workers_lost[name] >= MOST_LOSSES for name in under_way):
            return True
        self._workers_lost.update(under_way)
        return False

    def _spares_runner(self) -> bool:
        done = self.site.count(DONE)
        if done > self._done:
            self._done, self._runners_lost = done, 0
        if self._runners_lost >= MOST_LOSSES:
            return True
        self._runners_lost += 1
        return False


def kills(site: Site) -> None:
    """At least 60 kills over two or three running studies, some with every stage."""
    service = site.serve(settings={"TUNER_MAX_JOBS": "3"})
    killer, posted = Killer(site), list[Spec]()
    count, at_once = (6, 2) if site.short else (64, 3)
    while site.faults < count:
        keep_busy(site, service, posted, at_once)
        time.sleep(site.random.uniform(0.1, 2.5))
        killer.strike(service)
    site.say(f"the kills are over; {len(posted)} studies go to their end")
    site.wait_for_end(posted)
    compare_trials(site)
    if not site.short:
        compare_with_twins(site, [spec for spec in posted if spec["promotion"]][:4])


def keep_busy(site: Site, service: Service, posted: list[Spec], at_once: int) -> None:
    """Post studies until `at_once` are unfinished."""
    for _ in range(at_once - len(site.unfinished(posted))):
        name, every_stage = f"study-{len(posted)}", len(posted) % 3 != 2
        spec = studies.promoting(name, site.random, epochs=2) if every_stage else studies.searching(name, site.random)
        service.post("/v1/studies", spec)
        posted.append(spec)
