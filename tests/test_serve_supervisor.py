"""The supervisor with processes that do nothing but live, die or refuse to."""

import logging
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.serving import wait_for
from tuner.cli import supervisor
from tuner.cli.supervisor import Role, Supervisor


def live(pids: Path) -> None:
    """Says its number and lives on; it would rather not end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pids.open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(60)


def test_a_killed_process_is_replaced_and_a_stubborn_one_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the context the role always has a process; after it there is none, even of one that ignores SIGTERM."""
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.2)
    said = tmp_path / "pids"
    said.touch()
    with Supervisor(Role("idler", live, (said,))):
        [first] = wait_for(lambda: said.read_text().split(), "the first process")
        os.kill(int(first), signal.SIGKILL)
        wait_for(lambda: len(said.read_text().split()) == 2, "its successor")
    assert not multiprocessing.active_children()


def test_what_keeps_dying_is_started_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    """At once, then after 0.5 s, 1 s and so on; each time it is said how the last one ended."""
    with caplog.at_level(logging.WARNING), Supervisor(Role("crasher", sys.exit, (3,))):
        wait_for(lambda: len(caplog.messages) >= 3, "three deaths")
    starts = [message.rpartition("starts ")[2] for message in caplog.messages[:3]]
    assert starts == ["at once", "in 0.5 s", "in 1.0 s"]
    assert all("the crasher ended (exit code 3)" in message for message in caplog.messages)
