"""Batch runs: pictures are read, processed and written in parallel, and a failure of one does not stop the others."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ImageError, VARestorerError
from ..wording import LONGEST_SENTENCE, counted, shown
from .finding import Skipped
from .jobs import Job
from .manifest import Manifest, Record, file_hash
from .progress import RunBar, print_line, run_bar
from .read_ahead import ReadAhead, StoppedError

if TYPE_CHECKING:
    from pathlib import Path

    from ..pictures import Picture

_ENDS_THE_RUN = (KeyboardInterrupt, SystemExit, GeneratorExit, StoppedError)


@dataclass
class Task:
    """A picture and its state during a run."""

    job: Job
    index: int
    """Index in the run, from 0."""
    record: Record
    picture: Picture | None = None
    result: Any = None
    """(3, H, W) in [0, 1]."""
    error: BaseException | None = None
    trace: str = ""
    kept: bool = False
    """Whether its result already existed."""
    seconds: float = 0.0
    """Processing time, without waiting."""
    on_encoded: Callable[[Task, memoryview, tuple[int, int]], None] | None = None
    bar: RunBar | None = field(default=None, repr=False)
    quiet: bool = False
    """Whether notes are recorded but not printed."""

    def note(self, text: str) -> None:
        """Record a note about the picture and print it on stderr."""
        self.record.notes.append(text)
        if not self.quiet:
            self.say(text)

    def say(self, text: str) -> None:
        """Print a note about the picture on stderr."""
        text = shown(f"{self.job.source.name} {text}", LONGEST_SENTENCE)
        print_line(self.bar, f"varestorer: note: {text}", error=True)

    def will_write(self, content: memoryview, size: tuple[int, int]) -> None:
        """Record the content of the result before it is written; see `manifest` for the reason."""
        self.record.height, self.record.width = size
        if self.on_encoded is not None:
            self.on_encoded(self, content, size)

    def step(self, done: int, total: int) -> None:
        """Show the progress."""
        if self.bar is not None:
            self.bar.step(self.job.source.name, done, total)


class Steps(Protocol):
    """Reading and writing of the pictures of a run."""

    def read(self, task: Task) -> int:
        """Read the picture of a task and return the number of pixels of its result."""
        ...

    def write(self, task: Task) -> tuple[int, int]:
        """Write the result of a task and return its (height, width)."""
        ...


Worker = Callable[[Sequence[Task]], None]
"""Processes tasks whose pictures were read, on one device."""


@dataclass
class Batch:
    """Options and outcomes of a run."""

    verb: str
    """Past participle for the summary, such as "restored"."""
    settings: dict[str, Any]
    """Everything that determines the results, for the records."""
    numbered: bool = False
    """Whether a result also depends on the picture's index in the run."""
    manifest: Manifest | None = None
    skip_existing: bool = False
    json_lines: bool = False
    debug: bool = False
    own: Mapping[Path, dict[str, Any]] = field(default_factory=dict)
    """Settings of single pictures, by their paths."""
    done: int = 0
    failed: int = 0
    kept: int = 0
    """Number of pictures whose results already existed."""
    waited: float = 0.0
    """Fraction of the run that the workers waited for files."""
    stop: Event = field(default_factory=Event)
    """Set to stop the run: unfinished work may raise `StoppedError`."""

    def run(
        self, jobs: Sequence[Job], steps: Steps, workers: Sequence[Worker], group_pixels: int = 0
    ) -> None:
        """Process every job.

        Args:
            workers: one for each device.
            group_pixels: small pictures are passed to a worker together up to this number of pixels.
        """
        with run_bar(len(jobs)) as bar:
            tasks = [self.task(job, index, bar) for index, job in enumerate(jobs)]
            flow = ReadAhead(
                tasks,
                lambda task: self.read(task, steps),
                [lambda group, worker=worker: _work(group, worker) for worker in workers],
                lambda task: self.finish(task, steps),
                group_pixels,
                self.stop,
            )
            started = time.perf_counter()
            try:
                flow.run()
            finally:
                whole = len(workers) * (time.perf_counter() - started)
                self.waited = flow.waited / max(whole, 1e-9)

    def task(self, job: Job, index: int, bar: RunBar | None = None) -> Task:
        """Return a task for a job."""
        settings = {**self.settings, "number": index} if self.numbered else self.settings
        if own := self.own.get(job.source):
            settings = {**settings, **own}
        record = Record(str(job.source), settings, str(job.target))
        return Task(job, index, record, on_encoded=self._record_result, bar=bar)

    def read(self, task: Task, steps: Steps) -> int:
        """Read a picture, unless its result exists; return the pixels of its result, 0 if there is nothing to do."""
        with failure_kept(task):
            if self.is_done(task):
                task.kept = True
                return 0
            _check_replaceable(task.job.target)
            task.job.target.parent.mkdir(parents=True, exist_ok=True)
            return max(1, steps.read(task))
        return 0

    def is_done(self, task: Task) -> bool:
        """Hash the source of a task for its record; return whether its result exists and is to be kept."""
        if self.manifest is None:
            return False
        _check_regular(task.job.source)
        task.record.hash = file_hash(task.job.source)
        compared = task.job.compare is None or task.job.compare.exists()
        return self.skip_existing and compared and self.manifest.is_done(task.record)

    def finish(self, task: Task, steps: Steps) -> None:
        """Write a result and report the outcome."""
        self.write(task, steps)
        self.tell(task)

    def work(self, task: Task, worker: Worker) -> None:
        """Process one picture."""
        with failure_kept(task):
            worker([task])

    def write(self, task: Task, steps: Steps) -> None:
        """Write a result, if there is one."""
        if task.error is None and not task.kept:
            with failure_kept(task):
                task.record.height, task.record.width = steps.write(task)
        task.picture = task.result = None

    def reason(self, task: Task) -> str:
        """Return the error of a picture as a sentence."""
        assert task.error is not None
        return _reason(task.error)

    def tell(self, task: Task) -> None:
        """Count, record and print the outcome of a picture."""
        record, bar = task.record, task.bar
        record.seconds = round(task.seconds, 3)
        if task.kept:
            self.kept += 1
        elif task.error is not None:
            self.failed += 1
            if self.debug:
                print_line(bar, task.trace, error=True)
            record.error, record.result_hash = _reason(task.error), None
            self._record_failure(record, bar)
            text = shown(f"{task.job.source.name} failed: {record.error}", LONGEST_SENTENCE)
            print_line(bar, f"varestorer: {text}", error=True)
        else:
            self.done += 1
            if not self.json_lines:
                size = f"{record.width} x {record.height}"
                text = f"{task.job.source} -> {task.job.target}  {size}  {record.seconds:.1f} s"
                print_line(bar, shown(text, LONGEST_SENTENCE))
        if self.json_lines:
            line = json.dumps({**asdict(record), "kept": task.kept}, sort_keys=True)
            print_line(bar, line)
        if bar is not None:
            bar.finished(task.job.source.name, (record.width or 0) * (record.height or 0))

    def summary(self, skipped: Skipped, end: str = "", **further: Any) -> None:
        """Print a summary, in words or as the last JSON line."""
        others = skipped.files - skipped.pictures
        if self.json_lines:
            counts = {"done": self.done, "failed": self.failed, "kept": self.kept}
            counts |= {"skipped": skipped.files, "skipped_pictures": skipped.pictures}
            print(json.dumps({**counts, **further}), flush=True)
            return
        counts = [f"{self.done} {self.verb}"]
        counts += [f"{self.failed} failed"] * bool(self.failed)
        counts += [f"{self.kept} already done"] * bool(self.kept)
        counts += [f"{counted(skipped.pictures, 'picture')} skipped"] * bool(skipped.pictures)
        counts += [f"{counted(others, 'other file')} skipped"] * bool(others)
        print(", ".join(counts) + end)

    def _record_result(self, task: Task, content: memoryview, _: tuple[int, int]) -> None:
        if self.manifest is not None:
            task.record.result_hash = hashlib.sha256(content).hexdigest()
            task.record.seconds = round(task.seconds, 3)
            self.manifest.append(task.record)

    def _record_failure(self, record: Record, bar: RunBar | None) -> None:
        if self.manifest is not None:
            try:
                self.manifest.append(record)
            except VARestorerError as error:
                print_line(bar, f"varestorer: {shown(error, LONGEST_SENTENCE)}", error=True)


def _work(group: list[Task], worker: Worker) -> None:
    """Process pictures together; if that fails, one at a time, so that a failure affects only one picture."""
    if len(group) > 1:
        started = time.perf_counter()
        try:
            worker(group)
            for task in group:
                task.seconds += (time.perf_counter() - started) / len(group)
            return
        except _ENDS_THE_RUN:
            raise
        except BaseException:
            pass
    for task in group:
        with failure_kept(task):
            worker([task])


@contextmanager
def failure_kept(task: Task) -> Iterator[None]:
    """Record an exception in a step as the failure of its picture, and add up its seconds."""
    started = time.perf_counter()
    try:
        yield
    except _ENDS_THE_RUN:
        raise
    except BaseException as error:  # extension modules may raise more than Exception
        task.error, task.trace = error, traceback.format_exc()
        task.picture = task.result = None
    finally:
        task.seconds += time.perf_counter() - started


def _reason(error: BaseException) -> str:
    """Return an error as a sentence, with its class if it is unexpected."""
    from ..tiles.batching import is_out_of_memory

    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return "there is not enough memory. Use a smaller --upscale."
    if isinstance(error, VARestorerError):
        return str(error)
    return f"{type(error).__name__}: {str(error)[:200]}. --debug shows where it comes from."


def _check_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ImageError(f"{path} is a folder, a pipe or a device; expected a picture file.")


def _check_replaceable(path: Path) -> None:
    """Raise an error before any work if a result would replace a write-protected file."""
    if path.exists() and not path.stat().st_mode & 0o222:
        raise ImageError(f"{path} is write-protected and was not replaced.")
