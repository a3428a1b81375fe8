"""All drills by name, and how one is done."""

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drills.clocks import clock_jumps
from drills.control import control
from drills.finding import Finding, Missing, Stuck
from drills.full_disk import full_disk
from drills.kills import kills
from drills.outages import postgres_stopped, sqlite_locked
from drills.schedules import schedules
from drills.site import Site
from drills.three_runners import three_runners
from drills.zombies import zombies

Drill = Callable[[Site], None]

DRILLS: dict[str, Drill] = {
    "kills": kills,
    "zombies": zombies,
    "three-runners": three_runners,
    "postgres-stopped": postgres_stopped,
    "sqlite-locked": sqlite_locked,
    "full-disk": full_disk,
    "clock-jumps": clock_jumps,
    "control": control,
    "schedules": schedules,
}

SHORT = ["kills", "postgres-stopped", "clock-jumps", "control"]
"""What a change must pass before it lands."""

LOG_CHARACTERS = 4000


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    drill: str
    faults: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seconds: float
    missing: Missing | None = None
    """Why the drill was not done."""


def perform(name: str, seed: int, short: bool) -> Outcome:
    """Do a drill; whatever happens, nothing of it is left but, where something was found, its folder with logs and database."""
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{name:>16} {time.monotonic() - began:6.1f} s  {what}", flush=True)

    site = Site(Path(tempfile.mkdtemp(prefix=f"drill-{name}-")), f"{seed} {name}", short, say)
    missing = None
    with site.closing:
        try:
            _do(DRILLS[name], site)
        except Missing as reason:
            missing = reason
            say(f"skipped: {missing}")
        finally:
            site.sweep()
    if site.findings:
        for service in site.services:
            say(f"the end of {service.name}'s log:\n{service.log[-LOG_CHARACTERS:]}")
        say(f"its logs and its database stay in {site.folder}")
    else:
        shutil.rmtree(site.folder)
    return Outcome(name, site.faults, tuple(site.findings), tuple(site.notes), time.monotonic() - began, missing)


def _do(drill: Drill, site: Site) -> None:
    for step in (drill, Site.conclude):
        try:
            step(site)
        except Stuck as stuck:
            site.find("stuck", str(stuck))
        except Missing:
            raise
        except Exception:
            # A drill that cannot go on is a finding too, and the others are to be done all the same.
            site.find("other", traceback.format_exc())
