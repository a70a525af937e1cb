"""How a worker process begins: deaf to Ctrl-C, on one thread, and ending when its parent does."""

from __future__ import annotations

import os
import signal
import threading
import time


def start_worker(parent: int) -> None:
    """Prepare this process as a worker of the process with the id `parent`."""
    import torch

    # Ctrl-C reaches every process of a terminal; the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has: a killed parent cannot say so."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
