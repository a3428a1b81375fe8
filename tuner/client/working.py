"""An outside worker: asks for trials, evaluates them and tells, until the study is done."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from tuner.client.client import Client
from tuner.client.refused import NoAnswer, Refused
from tuner.specs.telling import CompleteCall

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_SECONDS = 1.0
"""Between two questions for a trial, where every trial left is with another worker or the service is away."""

WAITED_OUT = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)


class Infeasible(Exception):
    """Raised by an evaluation: this configuration cannot be evaluated, and the sampler is to learn from that."""


@dataclass(frozen=True)
class Trial:
    """One configuration in a worker's hands."""

    number: int
    params: dict[str, bool | int | float | str]
    client: Client
    study: str

    def measure(self, step: int, value: float) -> bool:
        """Report an intermediate value, which also keeps the lease; answers whether to stop here and return None."""
        return self.client.measure(self.study, self.number, step, value).should_stop


def work(client: Client, study: str, client_id: str, evaluate: Callable[[Trial], float | None]) -> int:
    """Evaluate trials until there are no more; answers how many.

    `evaluate` answers the value, or None for a trial that was told to stop. An Infeasible of its is told as such; any other
    error is told as a failure, and raised. The same `client_id` takes up the trial that an earlier run of this worker left.
    """
    evaluated = 0
    while True:
        asked = _outlast(lambda: client.suggest(study, client_id))
        if asked.done:
            return evaluated
        for given in asked.trials:
            _evaluate(Trial(given.number, given.params, client, study), evaluate)
            evaluated += 1
        if not asked.trials:
            time.sleep(PAUSE_SECONDS)


def _evaluate(trial: Trial, evaluate: Callable[[Trial], float | None]) -> None:
    try:
        value = evaluate(trial)
        told = CompleteCall(pruned=True) if value is None else CompleteCall(value=value)
    except Infeasible as infeasible:
        told = CompleteCall(infeasible=True, reason=str(infeasible) or None)
    except Exception as error:
        failed = CompleteCall(failed=True, reason=repr(error)[:2000])
        _outlast(lambda: trial.client.complete(trial.study, trial.number, failed))
        raise
    _outlast(lambda: trial.client.complete(trial.study, trial.number, told))


def _outlast(call: Callable[[], T]) -> T:
    """What `call` answers, asked again while the service is away or busy."""
    while True:
        try:
            return call()
        except (NoAnswer, Refused) as error:
            if isinstance(error, Refused) and error.status not in WAITED_OUT:
                raise
            logger.warning("%s; asking again", error)
            time.sleep(PAUSE_SECONDS)
