"""The way to the service: the one at TUNER_URL, or else the same app in this process on the data folder."""

from collections.abc import Iterator
from contextlib import contextmanager

from tuner.client import Client
from tuner.client.address import Address
from tuner.errors import NotFound
from tuner.settings import Settings


@contextmanager
def open_door(*, makes_database: bool = False) -> Iterator[Client]:
    """A client, closed at the end. Raises NotFound where there is neither an address nor a database, unless it is to be made."""
    address = Address()
    if address.url:
        with Client.over_http(address.url, address.bearer()) as client:
            yield client
        return
    settings = Settings()
    if not makes_database:
        check_database(settings)
    with Client.in_process(settings) as client:
        yield client


def check_database(settings: Settings) -> None:
    """A question must not leave an empty database behind in whatever folder it was asked."""
    from tuner.store.database import is_there  # half a second, for which a client of a service need not wait

    if not is_there(settings.database_url):
        raise NotFound(
            f"no database is in {settings.data_dir}: `tuner run` or `tuner serve` makes one; TUNER_DATA_DIR names another "
            "folder, TUNER_URL a service"
        )
