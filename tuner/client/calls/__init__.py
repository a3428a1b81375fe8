"""The REST contract, each call described once for both clients, a file a resource."""

from tuner.client.calls.access import AccessCalls
from tuner.client.calls.datasets import DatasetCalls
from tuner.client.calls.estimates import EstimateCalls
from tuner.client.calls.health import HealthCalls
from tuner.client.calls.jobs import JobCalls
from tuner.client.calls.models import ModelCalls
from tuner.client.calls.outside import OutsideCalls
from tuner.client.calls.schedules import ScheduleCalls
from tuner.client.calls.studies import StudyCalls
from tuner.client.calls.trials import TrialCalls


class Calls(
    StudyCalls,
    EstimateCalls,
    TrialCalls,
    OutsideCalls,
    JobCalls,
    ModelCalls,
    ScheduleCalls,
    DatasetCalls,
    AccessCalls,
    HealthCalls,
):
    """All that a client can ask. Raises Refused where the service does, NoAnswer where it cannot be had.

    Lists come as iterators, which ask for the next page when it is needed.
    """


__all__ = ["Calls"]
