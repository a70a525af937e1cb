"""Reading ahead and writing in the background, so that the device never waits for files.

One thread per worker reads and one thread writes; outcomes are reported in the order in which pictures were finished.
Reading ahead is limited in pictures and in pixels, so memory does not grow with the folder.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Maximum number of pictures per worker that are read ahead, and that wait to be written."""
MAX_PIXELS_AHEAD = 2**25
"""Maximum number of pixels of results that are read ahead."""
_SHORT = 0.2  # seconds


class StoppedError(BaseException):
    """Raised while processing a picture when the run is stopped; not a failure of the picture."""


class ReadAhead(Generic[T]):
    """Passes items through three steps: `read`, the work of one of several workers, and `finish`."""

    def __init__(
        self,
        items: Sequence[T],
        read: Callable[[T], int],
        workers: Sequence[Callable[[list[T]], None]],
        finish: Callable[[T], None],
        group_pixels: int = 0,
        stop: threading.Event | None = None,
    ) -> None:
        """Create the pipeline. The steps must not raise exceptions for problems of an item.

        Args:
            read: returns the number of pixels of the item's result; 0 for one that needs no work.
            workers: each restores a list of items; a single one runs in the calling thread.
            finish: writes an item and reports it, in a thread of its own.
            group_pixels: items that have been read are processed together up to this number of pixels.
            stop: set to stop the run; a worker may then raise StoppedError.
        """
        self._items, self._read, self._finish = deque(items), read, finish
        self._workers = workers
        self._group_pixels = group_pixels
        self._ahead: deque[tuple[T, Future[int]]] = deque()
        self._lock = threading.RLock()
        self._room = threading.Semaphore(AHEAD * len(workers))
        self._error: BaseException | None = None
        self._stop = stop or threading.Event()
        self.waited = 0.0
        """Seconds that workers waited for files to be read."""

    def run(self) -> None:
        """Process all items.

        Raises:
            BaseException: an exception of a step, such as KeyboardInterrupt; unfinished items are finished or dropped.
        """
        readers = ThreadPoolExecutor(len(self._workers), "read")
        writer = ThreadPoolExecutor(1, "write")
        try:
            if len(self._workers) == 1:
                self._pass_through(self._workers[0], readers, writer)
            else:
                self._run_threads(readers, writer)
        except StoppedError:
            pass  # because of the error below
        except BaseException:
            self._stop.set()
            raise
        finally:
            readers.shutdown(wait=True, cancel_futures=True)
            writer.shutdown(wait=True)
        if self._error is not None:
            raise self._error

    def _run_threads(self, readers: ThreadPoolExecutor, writer: ThreadPoolExecutor) -> None:
        threads = [
            threading.Thread(target=self._guarded, args=(worker, readers, writer), daemon=True)
            for worker in self._workers
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(_SHORT)  # with a timeout, because Ctrl-C would wait on some systems
        except BaseException:
            self._stop.set()
            for thread in threads:
                thread.join()
            raise

    def _guarded(
        self, worker: Any, readers: ThreadPoolExecutor, writer: ThreadPoolExecutor
    ) -> None:
        try:
            self._pass_through(worker, readers, writer)
        except StoppedError:
            pass
        except BaseException as error:
            self._error = self._error or error
            self._stop.set()

    def _pass_through(
        self,
        worker: Callable[[list[T]], None],
        readers: ThreadPoolExecutor,
        writer: ThreadPoolExecutor,
    ) -> None:
        while not self._stop.is_set() and (group := self._next_group(readers)):
            needy = [item for item, pixels in group if pixels]
            if needy:
                worker(needy)
            for item, _ in group:
                self._room.acquire()
                writer.submit(self._finish, item).add_done_callback(self._finished)

    def _finished(self, future: Future[None]) -> None:
        self._room.release()
        if (error := future.exception()) is not None:
            self._error = self._error or error
            self._stop.set()

    def _next_group(self, readers: ThreadPoolExecutor) -> list[tuple[T, int]]:
        """Return the next item and those after it that may share its batch; empty at the end."""
        with self._lock:
            self._read_ahead(readers)
            if not self._ahead:
                return []
            item, future = self._ahead.popleft()
            self._read_ahead(readers)
        started = time.perf_counter()
        group = [(item, future.result())]
        with self._lock:
            self.waited += time.perf_counter() - started
            while self._ahead and self._ahead[0][1].done():
                pixels = self._ahead[0][1].result()
                if sum(size for _, size in group) + pixels > self._group_pixels:
                    break
                group.append((self._ahead.popleft()[0], pixels))
        return group

    def _read_ahead(self, readers: ThreadPoolExecutor) -> None:
        """Start reading further items as long as there is room; an item's size is only known after it was read."""
        most = AHEAD * len(self._workers) * (4 if self._group_pixels else 1)
        while self._items and len(self._ahead) < most and not self._stop.is_set():
            unread = sum(not future.done() for _, future in self._ahead)
            waiting = sum(future.result() for _, future in self._ahead if future.done())
            if unread >= len(self._workers) or waiting > MAX_PIXELS_AHEAD:
                return
            try:
                item = self._items[0]
                future = readers.submit(self._read, item)
            except RuntimeError:  # the run has ended
                return
            self._items.popleft()
            self._ahead.append((item, future))
            future.add_done_callback(lambda _: self._read_on(readers))

    def _read_on(self, readers: ThreadPoolExecutor) -> None:
        with self._lock:
            self._read_ahead(readers)
