"""No orphans: a process that ends with the one that asked for it."""

import multiprocessing
import os
import threading


def die_with_parent() -> None:
    """From now on this process ends, at once and without clean-up, when its parent has ended for whatever reason.

    The parent is the process that started this one through multiprocessing, not the fork server in between.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("only a process started by multiprocessing has a parent to die with")

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
