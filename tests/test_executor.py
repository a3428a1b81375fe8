"""Conformance: what every executor does, whatever its workers are. Real nets are trained, on small noisy pictures."""

import dataclasses
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tuner.data.installation import install
from tuner.executors.local import LocalExecutor
from tuner.executors.protocol import (
    Crashed,
    DataSlice,
    Diverged,
    EpochEnded,
    Event,
    Executor,
    Lost,
    Stopped,
    Task,
    Trained,
)
from tuner.specs.hyperparameters import Hyperparameters

EXECUTORS: dict[str, Callable[[], Executor]] = {"local": lambda: LocalExecutor(slots=2)}

PATIENCE = 60.0
"""Seconds before a test that waits for an event fails; events come in milliseconds where nothing is wrong."""


class Listener:
    """Keeps what is delivered, and waits for it."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def __call__(self, event: Event) -> None:
        self._events.put(event)

    def next(self) -> Event:
        return self._events.get(timeout=PATIENCE)

    def until_end(self) -> list[Event]:
        """The events up to the one that ends a task."""
        events = [self.next()]
        while isinstance(events[-1], EpochEnded):
            events.append(self.next())
        return events

    def silent(self) -> bool:
        return self._events.empty()


def write_digits(root: Path) -> DataSlice:
    """2,000 noisy copies of ten random pictures, installed as a data set."""
    generator = np.random.default_rng(1)
    labels = (np.arange(2_000) % 10).astype(np.uint8)
    pictures = generator.integers(0, 256, (10, 8, 8))
    images = (0.5 * pictures[labels] + 0.5 * generator.integers(0, 256, (2_000, 8, 8))).astype(np.uint8)
    unused = {"test_images": images[:10], "test_labels": labels[:10]}
    install("digits", root, {"train_images": images, "train_labels": labels, **unused})
    return DataSlice(root / "digits", train=(0, 500), validation=(500, 700))


def short_task(data: DataSlice) -> Task:
    """Three epochs of 20 batches."""
    net = Hyperparameters(depth=1, width=16, batch_size=25, learning_rate=0.01)
    return Task("short", net, data, epochs=3, seed=7, keep_weights=True)


def endless_task(data: DataSlice) -> Task:
    """Epochs of milliseconds, without end."""
    return dataclasses.replace(short_task(data), key="endless", epochs=1_000_000)


def occupy(executor: Executor, endless: Task) -> dict[str, Listener]:
    """Every slot runs an endless task."""
    running = {f"endless-{slot}": Listener() for slot in range(executor.slots)}
    for key, listener in running.items():
        executor.submit(dataclasses.replace(endless, key=key), listener)
    for listener in running.values():
        assert isinstance(listener.next(), EpochEnded)
    return running


def stop_all(executor: Executor, running: dict[str, Listener]) -> None:
    for key in running:
        executor.stop(key)
    for key, listener in running.items():
        assert listener.until_end()[-1] == Stopped(key)


@pytest.fixture(scope="module", params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with closing(EXECUTORS[request.param]()) as executor:
        yield executor


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DataSlice:
    return write_digits(tmp_path_factory.mktemp("data"))


@pytest.fixture
def short(digits: DataSlice) -> Task:
    return short_task(digits)


@pytest.fixture
def endless(digits: DataSlice) -> Task:
    return endless_task(digits)


def test_a_trained_task_tells_every_epoch_in_order_and_then_its_end_once(executor: Executor, short: Task) -> None:
    listener = Listener()
    executor.submit(short, listener)
    *epochs, end = listener.until_end()
    assert [event.record.epoch for event in epochs if isinstance(event, EpochEnded)] == [1, 2, 3]
    assert isinstance(end, Trained)
    assert end.weights
    assert {event.key for event in (*epochs, end)} == {"short"}

    executor.submit(dataclasses.replace(short, key="next"), listener)
    assert {event.key for event in listener.until_end()} == {"next"}


def test_training_learns(executor: Executor, short: Task) -> None:
    """The data reaches the net with its labels: ten pictures under noise are told apart."""
    listener = Listener()
    executor.submit(short, listener)
    *_, last, _end = listener.until_end()
    assert isinstance(last, EpochEnded)
    assert last.record.validation_accuracy > 0.9


def test_weights_are_kept_only_where_asked_for(executor: Executor, short: Task) -> None:
    listener = Listener()
    executor.submit(dataclasses.replace(short, keep_weights=False), listener)
    end = listener.until_end()[-1]
    assert isinstance(end, Trained)
    assert end.weights is None


def test_the_same_task_gives_the_same_bits_again_and_in_every_worker(executor: Executor, short: Task) -> None:
    listeners = [Listener() for _ in range(3 * executor.slots)]
    for listener in listeners:
        executor.submit(short, listener)
    first, *others = [_numbers(listener.until_end()) for listener in listeners]
    assert all(other == first for other in others)


def _numbers(events: list[Event]) -> tuple[list[dict[str, float]], bytes | None]:
    *epochs, end = events
    assert isinstance(end, Trained)
    records = [event.record.model_dump(exclude={"seconds"}) for event in epochs if isinstance(event, EpochEnded)]
    return records, end.weights


def test_another_seed_gives_other_bits(executor: Executor, short: Task) -> None:
    listener = Listener()
    executor.submit(short, listener)
    executor.submit(dataclasses.replace(short, seed=8), other := Listener())
    assert _numbers(listener.until_end()) != _numbers(other.until_end())


def test_other_data_and_normalisation_are_not_taken_for_those_before(executor: Executor, short: Task) -> None:
    """A worker keeps prepared data from task to task; results are the same as without that."""
    scaled = Hyperparameters(**{**short.hyperparameters.model_dump(), "normalisation": "scale"})
    variants = [
        short,
        dataclasses.replace(short, hyperparameters=scaled),
        dataclasses.replace(short, data=DataSlice(short.data.folder, (0, 250), (500, 700))),
        dataclasses.replace(short, data=DataSlice(short.data.folder, (0, 500), (100, 300))),
        dataclasses.replace(short, data=DataSlice(short.data.folder, (0, 500), (1000, 1200))),
    ]
    rounds = []
    for tasks in (variants, reversed(variants)):
        numbers = {}
        for task in tasks:
            executor.submit(task, listener := Listener())
            numbers[task] = _numbers(listener.until_end())
        rounds.append(numbers)
    assert rounds[0] == rounds[1]
    assert len({str(numbers) for numbers in rounds[0].values()}) == len(variants)


def test_a_stop_ends_training_within_an_epoch_and_within_a_second(executor: Executor, endless: Task) -> None:
    one_image_a_batch = Hyperparameters(depth=4, width=512, batch_size=1)
    long_epochs = dataclasses.replace(endless, hyperparameters=one_image_a_batch)
    for task in (endless, long_epochs):
        executor.submit(task, listener := Listener())
        assert isinstance(listener.next(), EpochEnded)
        executor.stop(task.key)
        asked = time.monotonic()
        assert listener.until_end()[-1] == Stopped(task.key)
        assert time.monotonic() - asked < 1.5
        assert listener.silent()


def test_a_waiting_task_is_stopped_at_once_and_never_runs(executor: Executor, endless: Task, short: Task) -> None:
    running = occupy(executor, endless)
    executor.submit(short, waiting := Listener())
    executor.stop(short.key)
    assert waiting.next() == Stopped(short.key)
    stop_all(executor, running)
    assert waiting.silent()


def test_a_stop_of_an_ended_or_unknown_task_does_nothing(executor: Executor, short: Task) -> None:
    executor.submit(short, listener := Listener())
    assert isinstance(listener.until_end()[-1], Trained)
    executor.stop(short.key)
    executor.stop("nobody")
    executor.submit(dataclasses.replace(short, key="after"), after := Listener())
    assert isinstance(after.until_end()[-1], Trained)
    assert listener.silent()


def test_tasks_that_wait_start_in_the_order_of_their_submission(executor: Executor, endless: Task, short: Task) -> None:
    running = occupy(executor, endless)
    listener = Listener()
    for key in "abcd":
        executor.submit(dataclasses.replace(short, key=key), listener)
    (freed, stopped), *rest = running.items()
    stop_all(executor, {freed: stopped})
    events = [event for _ in "abcd" for event in listener.until_end()]
    assert [event.key for event in events if not isinstance(event, EpochEnded)] == ["a", "b", "c", "d"]
    assert [event.key for event in events] == sorted(event.key for event in events)
    stop_all(executor, dict(rest))


def test_a_diverged_run_is_told_with_its_epoch(executor: Executor, short: Task) -> None:
    explosive = Hyperparameters(depth=4, width=16, optimizer="sgd", learning_rate=100.0, normalisation="none")
    executor.submit(dataclasses.replace(short, hyperparameters=explosive), listener := Listener())
    end = listener.until_end()[-1]
    assert isinstance(end, Diverged)
    assert end.epoch >= 1
    assert end.reason


def test_an_error_of_the_run_is_told_with_its_traceback_and_the_worker_goes_on(executor: Executor, short: Task) -> None:
    nowhere = dataclasses.replace(short.data, folder=short.data.folder / "nowhere")
    for _ in range(executor.slots):
        executor.submit(dataclasses.replace(short, data=nowhere), listener := Listener())
        (end,) = listener.until_end()
        assert isinstance(end, Crashed)
        assert "no data set is named 'nowhere'" in end.traceback
    executor.submit(short, listener)
    assert isinstance(listener.until_end()[-1], Trained)


def test_a_task_that_overruns_its_time_limit_is_lost_and_the_limit_named(executor: Executor, endless: Task) -> None:
    began = time.monotonic()
    executor.submit(dataclasses.replace(endless, timeout_seconds=0.75), listener := Listener())
    end = listener.until_end()[-1]
    assert isinstance(end, Lost)
    assert end.why == "time_limit"
    assert "0.75 s" in end.detail
    assert time.monotonic() - began >= 0.75


def test_the_time_limit_does_not_count_waiting(executor: Executor, endless: Task, short: Task) -> None:
    running = occupy(executor, endless)
    executor.submit(dataclasses.replace(short, timeout_seconds=10.0), limited := Listener())
    executor.submit(dataclasses.replace(endless, key="late", timeout_seconds=0.2), late := Listener())
    time.sleep(0.4)  # longer than the limit of the task that waits
    assert late.silent()
    stop_all(executor, running)
    assert isinstance(limited.until_end()[-1], Trained)
    assert isinstance(late.until_end()[-1], Lost)


def test_a_listener_may_submit_and_stop(executor: Executor, endless: Task, short: Task) -> None:
    """A coordinator answers an event with the next command, from the thread that delivers."""
    listener = Listener()

    def stop_then_follow(event: Event) -> None:
        if isinstance(event, EpochEnded):
            executor.stop(event.key)
        else:
            executor.submit(short, listener)

    executor.submit(endless, stop_then_follow)
    assert isinstance(listener.until_end()[-1], Trained)


def test_an_error_in_a_listener_is_logged_and_its_task_goes_on(
    executor: Executor, short: Task, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()

    def fail_at_first(event: Event) -> None:
        listener(event)
        if isinstance(event, EpochEnded) and event.record.epoch == 1:
            raise OSError("disk full")

    executor.submit(short, fail_at_first)
    *epochs, end = listener.until_end()
    assert len(epochs) == 3
    assert isinstance(end, Trained)
    assert "disk full" in caplog.text


@pytest.mark.parametrize("make", EXECUTORS.values(), ids=EXECUTORS)
def test_after_close_there_is_no_event_and_no_task_is_taken(
    make: Callable[[], Executor], endless: Task, short: Task
) -> None:
    executor = make()
    running = occupy(executor, endless)
    executor.submit(short, waiting := Listener())
    executor.close()
    delivered = {key: _drain(listener) for key, listener in running.items()}
    executor.close()
    executor.stop(short.key)
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(short, waiting)
    assert all(isinstance(event, EpochEnded) for events in delivered.values() for event in events)
    assert waiting.silent()
    assert all(listener.silent() for listener in running.values())


def _drain(listener: Listener) -> list[Event]:
    events = []
    while not listener.silent():
        events.append(listener.next())
    return events


def test_a_task_goes_on_from_its_checkpoint(executor: Executor, short: Task) -> None:
    """A task given the checkpoint of an epoch tells the epochs up to there again, trains the rest, and ends bit for bit alike."""
    task = dataclasses.replace(short, checkpoint_seconds=0.0)
    whole, rest = Listener(), Listener()
    executor.submit(task, whole)
    *epochs, outcome = whole.until_end()
    first = epochs[0]
    assert isinstance(first, EpochEnded)
    assert first.checkpoint is not None
    executor.submit(dataclasses.replace(task, key="rest", checkpoint=first.checkpoint, checkpoint_seconds=None), rest)
    *again, same = rest.until_end()
    assert isinstance(outcome, Trained)
    assert isinstance(same, Trained)
    assert [untimed(event) for event in again] == [untimed(event) for event in epochs]
    assert isinstance(again[0], EpochEnded)
    assert again[0].record == first.record, "the restored epoch is told as it was, its seconds too"
    assert same.weights == outcome.weights


def untimed(event: Event) -> dict[str, object]:
    assert isinstance(event, EpochEnded)
    return event.record.model_dump(exclude={"seconds"})
