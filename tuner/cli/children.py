"""The service's processes, each started by a supervisor and ending with it. Here is the first thing that each does.

Heavy modules are imported where they are needed: the API never loads what the runner does, nor the other way round.
"""

import logging
import queue
import signal
import socket
import sys
import threading

from tuner.cli.logs import log_to_stderr
from tuner.errors import TunerError
from tuner.executors.guard import die_with_parent
from tuner.settings import Settings

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 2
"""So long a request may go on when the service ends."""


def serve_api(settings: Settings, listening: socket.socket, local_token: str | None = None) -> None:
    """Answer requests until SIGTERM; `local_token` is the supervisor's own, for as long as it lives."""
    die_with_parent()
    log_to_stderr(settings.log_level)
    import uvicorn

    from tuner.client.in_process import load_app

    try:
        app = load_app(settings, local_token)
    except TunerError as error:
        logger.error("the API cannot start: %s", error)
        sys.exit(1)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # it would write queries; the gate writes a line without them
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=REQUEST_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


def work_on_jobs(settings: Settings) -> None:
    """Run jobs until SIGTERM; then give them back and end the workers."""
    ending = threading.Event()
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()

    def end() -> None:
        asked.get()
        ending.set()

    # A signal handler may not touch an Event, whose lock the interrupted code may hold; this queue is made for it.
    threading.Thread(target=end, name="ending", daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: asked.put(None))
    die_with_parent()
    log_to_stderr(settings.log_level)
    from tuner.runner.runner import run

    try:
        run(settings, ending)
    except TunerError as error:
        logger.error("the runner cannot start: %s", error)
        sys.exit(1)
