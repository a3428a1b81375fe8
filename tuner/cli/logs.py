"""Logging for a person who watches: a sentence a line on standard error."""

import logging

CHATTY = ("alembic", "httpx", "httpcore", "asyncio", "uvicorn.error")
"""Libraries that tell at INFO what only a developer wants to know."""


def log_to_stderr(level: str) -> None:
    """From now on this process logs at `level`; libraries that talk much, only from WARNING or at DEBUG."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    for name in CHATTY:
        logging.getLogger(name).setLevel("DEBUG" if level == "DEBUG" else max(logging.WARNING, logging.root.level))
