"""Processes that the kernel has killed for want of memory.

The kernel counts them and tells no more: neither which process it was nor when. Linux alone counts; elsewhere, as on macOS, a
process killed for want of memory looks like any other that was killed.
"""

from pathlib import Path

VMSTAT = Path("/proc/vmstat")
OWN_GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


class OomKills:
    """Tells whose death was one of them: each one counted explains the death of one process that was there before."""

    def __init__(self, counter: Path | None) -> None:
        self._counter = counter
        self._claimed = 0

    def count(self) -> int:
        """So many so far; 0 for ever where nothing counts them."""
        if self._counter is None:
            return 0
        lines = (line.split() for line in self._counter.read_text().splitlines())
        return next((int(words[1]) for words in lines if words[0] == "oom_kill"), 0)

    def claim(self, since: int) -> bool:
        """Whether one more than `since` was counted, and nobody has claimed it."""
        explained = max(since, self._claimed)
        if self.count() <= explained:
            return False
        self._claimed = explained + 1
        return True


def find_counter() -> Path | None:
    """The file that counts them: of this process's own control group (version 2), else of the whole machine."""
    if OWN_GROUP.is_file():
        for line in OWN_GROUP.read_text().splitlines():
            if line.startswith("0::"):
                events = GROUPS / line.removeprefix("0::").lstrip("/") / "memory.events"
                if events.is_file():
                    return events
    return VMSTAT if VMSTAT.is_file() else None
