"""The service's typed client. What it refuses and what it answers are classes of their own beside it."""

from tuner.client.client import Client
from tuner.client.following import follow
from tuner.client.refused import NoAnswer, Refused
from tuner.client.working import Infeasible, Trial, work

__all__ = ["Client", "Infeasible", "NoAnswer", "Refused", "Trial", "follow", "work"]
