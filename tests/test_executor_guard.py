"""A guarded process ends with its parent, even one that does nothing by which it would notice."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import wait_until
from tests.test_executor_local import ended

OWNER = """
import multiprocessing, sys, time
from tuner.executors.guard import die_with_parent

def sleep(connection):
    die_with_parent()
    connection.send(None)
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ours, theirs = context.Pipe()
    context.Process(target=sleep, args=(theirs,)).start()
    ours.recv()
    print("asleep", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_guarded_process_ends_when_its_parent_is_killed(method: str, tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    with subprocess.Popen([sys.executable, script, method], stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == b"asleep\n"
        family = psutil.Process(owner.pid).children(recursive=True)
        owner.kill()
        wait_until(lambda: ended(family), "every process has ended", seconds=3.0)
