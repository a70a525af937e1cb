"""Start of worker processes, which ignore Ctrl-C, use one thread, and end with their parent."""

from __future__ import annotations

import os
import signal
import threading
import time


def start_worker(parent: int) -> None:
    """Prepare this process as a worker of the process with the id `parent`."""
    import torch

    # Ctrl-C reaches every process of a terminal; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, since a killed parent cannot notify it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
