"""Worker processes that end when the process that started them ends, however that is killed."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import parent_process

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """Let this process be killed as soon as its parent is gone; called in a worker, once.

    A worker that waits on a queue never hears of it otherwise: it holds both ends of the queue's pipe.
    """
    threading.Thread(target=_follow, name="end-with-parent", daemon=True).start()


def _follow() -> None:
    # Not PR_SET_PDEATHSIG: that also fires when only the thread that started the worker ends.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)
