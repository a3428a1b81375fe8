"""Local workers are processes: what happens when one is killed, and that none is left behind."""

import dataclasses
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.conftest import wait_until
from tests.test_executor import Listener, endless_task, occupy, short_task, stop_all, write_digits
from tuner.executors.dispatcher import FAILED_STARTS
from tuner.executors.local import LocalExecutor
from tuner.executors.oom_kills import OomKills, find_counter
from tuner.executors.protocol import EpochEnded, Event, Lost, OutOfMemory, Task, Trained
from tuner.executors.worker import NICENESS
from tuner.specs.hyperparameters import Hyperparameters


def ended(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs; one that nobody waits for stays as a zombie, and has ended too."""
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def workers(executor: LocalExecutor) -> list[psutil.Process]:
    """All of them, ready."""
    wait_until(lambda: len(executor.workers) == executor.slots, "every slot has its worker")
    return [psutil.Process(pid) for pid in executor.workers]


def worker_of(executor: LocalExecutor, key: str) -> psutil.Process:
    (pid,) = (pid for pid, running in executor.workers.items() if running == key)
    return psutil.Process(pid)


def child_of_this_process(command: str) -> psutil.Process:
    alive = [child for child in psutil.Process().children() if not ended([child])]
    (child,) = (child for child in alive if command in " ".join(child.cmdline()))
    return child


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(slots=2)) as executor:
        yield executor


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return short_task(write_digits(tmp_path_factory.mktemp("data")))


@pytest.fixture
def endless(short: Task) -> Task:
    return endless_task(short.data)


def test_workers_are_kept_nice_and_deaf_to_ctrl_c(executor: LocalExecutor, short: Task) -> None:
    before = workers(executor)
    assert [process.nice() for process in before] == [psutil.Process().nice() + NICENESS] * executor.slots
    for process in before:
        process.send_signal(signal.SIGINT)
    listeners = [Listener() for _ in range(2 * executor.slots)]
    for listener in listeners:
        executor.submit(short, listener)
    assert all(isinstance(listener.until_end()[-1], Trained) for listener in listeners)
    assert workers(executor) == before


def test_a_stop_is_obeyed_not_enforced(executor: LocalExecutor, endless: Task) -> None:
    before = workers(executor)
    stop_all(executor, occupy(executor, endless))
    assert workers(executor) == before


def test_a_worker_that_does_not_obey_a_stop_is_killed(executor: LocalExecutor, endless: Task, short: Task) -> None:
    before = workers(executor)
    running = occupy(executor, endless)
    for process in before:
        process.suspend()
    stop_all(executor, running)
    wait_until(lambda: ended(before), "the workers have ended")
    executor.submit(short, listener := Listener())
    assert isinstance(listener.until_end()[-1], Trained)


def test_a_killed_worker_loses_its_own_task_only(executor: LocalExecutor, endless: Task, short: Task) -> None:
    (killed, lost), (spared, kept) = occupy(executor, endless).items()
    executor.submit(dataclasses.replace(short, key="waiting"), waiting := Listener())
    victim = worker_of(executor, killed)
    victim.kill()
    end = lost.until_end()[-1]
    assert isinstance(end, Lost)
    assert (end.key, end.why) == (killed, "killed")
    assert "SIGKILL" in end.detail
    assert str(victim.pid) in end.detail
    assert isinstance(waiting.until_end()[-1], Trained), "the slot is filled again"
    stop_all(executor, {spared: kept})


def test_a_task_that_ended_in_time_is_not_lost_for_a_slow_listener(executor: LocalExecutor, short: Task) -> None:
    """What a worker had said before its time was up counts, though it was heard only later."""
    workers(executor)
    listener = Listener()

    def hear_slowly(event: Event) -> None:
        listener(event)
        if isinstance(event, EpochEnded) and event.record.epoch == 1:
            time.sleep(2.0)

    executor.submit(dataclasses.replace(short, timeout_seconds=1.5), hear_slowly)
    assert isinstance(listener.until_end()[-1], Trained)


def test_an_idle_worker_that_dies_is_replaced(executor: LocalExecutor, short: Task) -> None:
    before = workers(executor)
    for process in before:
        process.kill()
    pids = {process.pid for process in before}
    wait_until(lambda: executor.workers.keys().isdisjoint(pids), "the workers are missed")
    listeners = [Listener() for _ in workers(executor)]
    for listener in listeners:
        executor.submit(short, listener)
    assert all(isinstance(listener.until_end()[-1], Trained) for listener in listeners)


def test_a_killed_fork_server_loses_each_running_task_once_and_comes_up_again(
    executor: LocalExecutor, endless: Task, short: Task
) -> None:
    """Its children outlive it, and nobody could wait for them: they are ended too, even such as would not notice."""
    before = workers(executor)
    running = occupy(executor, endless)
    executor.submit(short, waiting := Listener())
    before[0].suspend()
    child_of_this_process("multiprocessing.forkserver").kill()
    for key, listener in running.items():
        end = listener.until_end()[-1]
        assert isinstance(end, Lost)
        assert (end.key, end.why) == (key, "killed")
        assert "fork server" in end.detail
    assert isinstance(waiting.until_end()[-1], Trained)
    wait_until(lambda: ended(before), "the workers have ended")
    assert all(listener.silent() for listener in running.values())


@pytest.mark.filterwarnings("ignore:resource_tracker:UserWarning")
def test_a_killed_resource_tracker_disturbs_nothing(executor: LocalExecutor, short: Task) -> None:
    """It is started again by multiprocessing when next a worker is."""
    first, *_ = workers(executor)
    tracker = child_of_this_process("multiprocessing.resource_tracker")
    tracker.kill()
    wait_until(lambda: ended([tracker]), "the tracker has ended")
    first.kill()
    wait_until(lambda: first.pid not in executor.workers, "the worker is missed")
    workers(executor)
    executor.submit(short, listener := Listener())
    assert isinstance(listener.until_end()[-1], Trained)
    assert child_of_this_process("multiprocessing.resource_tracker").is_running()


def test_a_net_too_large_for_its_worker_is_out_of_memory_and_the_worker_goes_on(short: Task) -> None:
    """A bound of 512 MiB: a net of 280 MB of weights, with its gradients, ends as OutOfMemory with the allocator's words; the
    same worker trains the next task."""
    wide = Hyperparameters(depth=5, width=4096, batch_size=25)
    with closing(LocalExecutor(slots=1, memory_mb=512)) as executor:
        [worker] = workers(executor)
        executor.submit(dataclasses.replace(short, hyperparameters=wide), listener := Listener())
        [end] = listener.until_end()
        assert isinstance(end, OutOfMemory)
        assert "allocate" in end.detail
        executor.submit(short, bounded := Listener())
        assert isinstance(bounded.until_end()[-1], Trained)
        assert workers(executor) == [worker]


@pytest.mark.parametrize(("counted", "why"), [(1, "out_of_memory"), (0, "killed")])
def test_a_worker_that_the_kernel_took_for_want_of_memory_is_told_apart(
    endless: Task, tmp_path: Path, counted: int, why: str
) -> None:
    """Where the kernel's counter has risen since the worker was started, its death by SIGKILL is put down to that; one count
    explains one death, and the count of before none."""
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 7\noom_kill 3\n")
    with closing(LocalExecutor(slots=2, oom_counter=counter)) as executor:
        running = occupy(executor, endless)
        counter.write_text(f"low 0\noom 8\noom_kill {3 + counted}\n")
        ends = []
        for key, listener in running.items():
            worker_of(executor, key).kill()
            ends.append(listener.until_end()[-1])
    assert [isinstance(end, Lost) and end.why for end in ends] == [why, "killed"]


def test_the_kernels_counter_is_found() -> None:
    """On Linux there is a file that counts its kills; it reads as a number."""
    counter = find_counter()
    assert (counter is not None) == (sys.platform == "linux")
    assert OomKills(counter).count() >= 0


def test_workers_that_cannot_start_are_tried_ever_more_rarely_and_waiting_tasks_are_given_up(
    short: Task, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(LocalExecutor(slots=2, module="tuner.executors.no_such_module")) as executor:
        executor.submit(short, listener := Listener())
        end = listener.next()
        assert isinstance(end, Lost)
        assert end.why == "killed"
        assert "exit code 1" in end.detail
        tries = caplog.text.count("did not start")
        assert tries <= executor.slots * (FAILED_STARTS + 1)


def test_close_leaves_no_worker(endless: Task) -> None:
    executor = LocalExecutor(slots=2)
    processes = workers(executor)
    occupy(executor, endless)
    executor.close()
    wait_until(lambda: ended(processes), "the workers have ended", seconds=2.0)


def test_close_does_not_wait_for_workers_that_are_starting() -> None:
    before = set(psutil.Process().children(recursive=True))
    LocalExecutor(slots=2).close()

    def none_more() -> bool:
        return ended([child for child in psutil.Process().children(recursive=True) if child not in before])

    wait_until(none_more, "the workers have ended")


OWNER = """
import pickle, sys, time
from tuner.executors.local import LocalExecutor

executor = LocalExecutor(slots=2)
for task in pickle.load(sys.stdin.buffer):
    executor.submit(task, lambda event: print(event.key, flush=True))
time.sleep(60)
"""


def test_a_killed_owner_leaves_no_process(endless: Task) -> None:
    """Workers in the midst of training and the fork server end by themselves."""
    tasks = [dataclasses.replace(endless, key=key) for key in "ab"]
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdin
        assert owner.stdout
        owner.stdin.write(pickle.dumps(tasks))
        owner.stdin.close()
        seen: set[bytes] = set()
        while len(seen) < len(tasks):
            seen.add(owner.stdout.readline())
        family = psutil.Process(owner.pid).children(recursive=True)
        assert len(family) == 4, "two workers, the fork server and the resource tracker"
        owner.kill()
        wait_until(lambda: ended(family), "every process has ended", seconds=3.0)


def test_the_process_of_the_executor_does_not_load_torch() -> None:
    light = "import sys, tuner.executors.local; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", light], check=False).returncode == 0
