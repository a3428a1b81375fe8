"""The service's typed client. What it refuses and what it answers are classes of their own beside it."""

from tuner.client.client import Client
from tuner.client.following import follow
from tuner.client.refused import NoAnswer, Refused

__all__ = ["Client", "NoAnswer", "Refused", "follow"]
