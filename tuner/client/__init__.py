"""The service's typed client, blocking and for asyncio."""

from tuner.client.client import AsyncClient, Client
from tuner.client.refused import NoAnswer, Refused
from tuner.client.working import Infeasible, Trial, work

__all__ = ["AsyncClient", "Client", "Infeasible", "NoAnswer", "Refused", "Trial", "work"]
