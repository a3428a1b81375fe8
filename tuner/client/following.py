"""Watching a study until nothing more is to be seen."""

import time
from collections.abc import Callable

from tuner.client.answers import ENDED, StudyStatus
from tuner.client.client import Client
from tuner.client.refused import NoAnswer, Refused

POLL_SECONDS = 0.5

OUTAGE_SECONDS = 15.0
"""A supervisor starts a dead API again in less; what takes longer is for a person to see."""

UNAVAILABLE = 503


def follow(client: Client, name: str, on_status: Callable[[StudyStatus], None]) -> StudyStatus:
    """The status when the study has ended or is paused; `on_status` has seen each one before it, and it.

    An outage of up to OUTAGE_SECONDS is waited out; a longer one raises what the last call did.
    """
    answered = time.monotonic()
    while True:
        try:
            status = client.study(name)
        except (NoAnswer, Refused) as error:
            passing = isinstance(error, NoAnswer) or error.status == UNAVAILABLE
            if not passing or time.monotonic() - answered > OUTAGE_SECONDS:
                raise
        else:
            answered = time.monotonic()
            on_status(status)
            if status.state in (*ENDED, "paused"):
                return status
        time.sleep(POLL_SECONDS)
