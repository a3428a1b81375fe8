"""The socket that the API's processes answer on."""

import socket

from tuner.cli.listening import listen
from tuner.settings import Settings


def test_answers_are_not_held_back(settings: Settings) -> None:
    """A connection that is accepted sends at once what it is given; else each answer would wait 40 ms for its head's receipt."""
    with (
        listen(settings.model_copy(update={"port": 0})) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
