"""An estimate, waited for while a runner times the nets that it needs."""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from tuner.cli.workshop import Workshop
from tuner.client import Client, Refused
from tuner.client.address import Address
from tuner.settings import Settings
from tuner.specs.estimate import Estimate

PATIENCE_SECONDS = 120.0


def estimated(body: Mapping[str, Any]) -> Estimate:
    """By the service of TUNER_URL; without it on the data folder, by a runner that lives so long where none works on it."""
    address = Address()
    if address.url:
        with Client.over_http(address.url, address.bearer()) as client:
            return _ask(client, body, lambda: None)
    settings = Settings(log_level="WARNING")
    with Client.in_process(settings) as client:
        try:
            return client.estimate(body)
        except Refused as refused:
            if refused.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
        with Workshop(settings) as workshop:
            return _ask(client, body, workshop.open_if_free)


def _ask(client: Client, body: Mapping[str, Any], look: Callable[[], None]) -> Estimate:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        look()
        try:
            return client.estimate(body)
        except Refused as refused:
            if refused.status != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() >= deadline:
                raise
        time.sleep(1)
