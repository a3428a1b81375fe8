"""The data folder's disk is full for a while. It is a small file system in memory, filled by a file."""

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from drills import studies
from drills.finding import Missing
from drills.service import Service, wait_until
from drills.site import Site
from drills.studies import Spec
from drills.undisturbed import compare_trials, compare_with_twins

SIZE_MB = 160
"""The data set takes 55 of them."""


def full_disk(site: Site) -> None:
    """Full in the middle of searches; then with room for a megabyte more while promoted nets are to be kept."""
    _mount(site)
    service = site.serve()
    posted = [_post(service, studies.promoting("staged", site.random, epochs=4))]
    for turn in range(1 if site.short else 4):
        search = _post(service, studies.searching(f"search-{turn}", site.random, trials=40))
        posted.append(search)
        wait_until(lambda search=search: site.status(search["name"])["trials"]["complete"] >= 2, "trials")  # type: ignore[misc]
        with _filled(site, leave_mb=0):
            time.sleep(site.random.uniform(3, 12))
        wait_until(service.is_ready, "the service is ready again")
    _without_room_for_models(site, service, posted)
    site.wait_for_end(posted)
    compare_trials(site)
    compare_with_twins(site, [spec for spec in posted if spec["promotion"]])


def _without_room_for_models(site: Site, service: Service, posted: list[Spec]) -> None:
    """The job waits, or fails with the reason; with room again it comes to its end."""
    wide = studies.promoting("no-room", site.random, trials=4, epochs=2)
    spec = _post(service, {**wide, "search_space": {**wide["search_space"], "depth": 1, "width": 512}})
    posted.append(spec)
    wait_until(lambda: site.status(spec["name"])["stage"] in ("rung", "promotion"), "promotion")
    with _filled(site, leave_mb=1):
        time.sleep(30)
        status = site.status(spec["name"])
        site.say(f"    with room for less than a model its job is {status['state']}: {status['error']}")
        if status["state"] == "succeeded":
            site.find("other", "a model of 1.6 MB cannot have been kept in 1 MiB")
        if status["state"] == "failed" and not any(word in (status["error"] or "") for word in ("space", "full")):
            site.find("other", f"a full disk must be named as the reason, but it is {status['error']}")
    if site.status(spec["name"])["state"] == "failed":
        service.post(f"/v1/jobs/{status['job']['id']}/retry")


def _post(service: Service, spec: Spec) -> Spec:
    service.post("/v1/studies", spec)
    return spec


def _mount(site: Site) -> None:
    site.data_dir.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(site.data_dir)]
    tried = subprocess.run(mount, capture_output=True, text=True)
    if tried.returncode:
        raise Missing("tmpfs", f"a small file system cannot be mounted: {tried.stderr.strip()}")
    site.closing.callback(subprocess.run, ["umount", "--lazy", str(site.data_dir)], check=True)


@contextmanager
def _filled(site: Site, leave_mb: int) -> Iterator[None]:
    """For the block, only `leave_mb` are free."""
    filler = site.data_dir / "filler"
    with filler.open("wb") as file:
        while not _reserved(file.fileno(), shutil.disk_usage(site.data_dir).free - leave_mb * 2**20):
            pass  # the service has written meanwhile
    site.fault(f"the disk is full, {shutil.disk_usage(site.data_dir).free} bytes are free")
    try:
        yield
    finally:
        filler.unlink()


def _reserved(file: int, size: int) -> bool:
    """Whether so many bytes could be had; one byte at least is asked for."""
    try:
        os.posix_fallocate(file, 0, max(1, size))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return size <= 1
    return True
