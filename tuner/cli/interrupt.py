"""SIGTERM and Ctrl-C, told once."""

import signal
from types import FrameType


def interrupt_on_signals() -> None:
    """From now on the first SIGTERM or SIGINT raises KeyboardInterrupt in the main thread; later ones do nothing, so that
    what the first one ends, ends in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
