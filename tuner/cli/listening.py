"""The socket that the API answers on. The supervisor holds it, so that a caller waits while a dead API is replaced."""

import errno
import os
import socket
import time

from tuner.errors import Unavailable
from tuner.settings import Settings

PORT_SECONDS = 2.0
"""So long the API of a service that was killed may still hold the port."""

BACKLOG = 512


def listen(settings: Settings) -> socket.socket:
    """A listening socket on the settings' host and port. Raises Unavailable, naming both, where that cannot be had."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            return _bind(settings.host, settings.port)
        except socket.gaierror as error:
            raise Unavailable(
                f"TUNER_HOST must be an address of this machine, but {settings.host}: {error.strerror}"
            ) from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                why = (
                    "is in use"
                    if error.errno == errno.EADDRINUSE
                    else f"cannot be had: {os.strerror(error.errno or 0)}"
                )
                raise Unavailable(f"port {settings.port} on {settings.host} {why}") from error
        time.sleep(0.1)


def reachable_url(settings: Settings, listening: socket.socket) -> str:
    """An address that a client on this machine can use, and whose host name the service knows."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    # asyncio does this itself only for a socket that names its protocol. Without it each answer after the first of a connection
    # waits 40 ms for the client's acknowledgement of its head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
