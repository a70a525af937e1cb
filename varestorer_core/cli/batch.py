"""Many pictures, one after another: what each became is told and recorded, and none ends the others."""

from __future__ import annotations

import hashlib
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ImageError, VARestorerError
from ..wording import shown
from .jobs import Job
from .manifest import Manifest, Record, file_hash

OnEncoded = Callable[[memoryview], None]
Work = Callable[[Job, int, "Report"], tuple[int, int]]
"""Makes the result of a job, the i-th of the run; returns its (height, width)."""

_LONGEST = 2000
"""Characters of a message."""


class Report:
    """What the work on one picture tells while it runs."""

    def __init__(self, job: Job, record: Record, manifest: Manifest | None) -> None:
        self.record = record
        self._job = job
        self._manifest = manifest
        self._started = time.perf_counter()

    def note(self, text: str) -> None:
        """Tell on stderr something about the picture."""
        self.record.notes.append(text)
        print(
            f"varestorer: note: {shown(f'{self._job.source.name} {text}', _LONGEST)}",
            file=sys.stderr,
        )

    def will_write(self, content: memoryview, size: tuple[int, int]) -> None:
        """Record the content that the result is about to have; see `manifest` for why before."""
        self.record.height, self.record.width = size
        self.record.seconds = round(time.perf_counter() - self._started, 3)
        if self._manifest is not None:
            self.record.result_hash = hashlib.sha256(content).hexdigest()
            self._manifest.append(self.record)


@dataclass
class Batch:
    """How pictures are worked on, and what became of them."""

    verb: str
    """Past participle for the summary, such as "restored"."""
    settings: dict[str, Any]
    """All that decides the results, for the records."""
    manifest: Manifest | None = None
    skip_existing: bool = False
    json_lines: bool = False
    debug: bool = False
    done: int = 0
    failed: int = 0
    kept: int = 0
    """Pictures whose results were there already."""

    def run(self, jobs: Sequence[Job], work: Work) -> None:
        """Do every job."""
        for index, job in enumerate(jobs):
            self._run_job(job, index, work)

    def summary(self, skipped: int, end: str = "", **further: Any) -> None:
        """Print what was done, in words or as the last JSON line."""
        if self.json_lines:
            counts = {"done": self.done, "failed": self.failed, "kept": self.kept}
            self._print_json({**counts, "skipped": skipped, **further})
            return
        counts = [f"{self.done} {self.verb}"]
        counts += [f"{self.failed} failed"] * bool(self.failed)
        counts += [f"{self.kept} were there already"] * bool(self.kept)
        counts += [f"{skipped} other files skipped"] * bool(skipped)
        print(", ".join(counts) + end)

    def _run_job(self, job: Job, index: int, work: Work) -> None:
        record = Record(str(job.source), self.settings, str(job.target))
        started = time.perf_counter()
        try:
            if self.manifest is not None:
                _check_regular(job.source)
                record.hash = file_hash(job.source)
                compared = job.compare is None or job.compare.exists()
                if self.skip_existing and compared and self.manifest.is_done(record):
                    self.kept += 1
                    return
            _check_replaceable(job.target)
            job.target.parent.mkdir(parents=True, exist_ok=True)
            height, width = work(job, index, Report(job, record, self.manifest))
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # decoders in other languages raise more than Exception
            self.failed += 1
            if self.debug:
                traceback.print_exc()
            record.error, record.result_hash = _reason(error), None
            record.seconds = round(time.perf_counter() - started, 3)
            self._record_failure(record)
            text = f"{job.source.name} failed: {record.error}"
            print(f"varestorer: {shown(text, _LONGEST)}", file=sys.stderr)
        else:
            self.done += 1
            record.width, record.height = width, height
            record.seconds = round(time.perf_counter() - started, 3)
            if not self.json_lines:
                text = f"{job.source} -> {job.target}  {width} x {height}  {record.seconds:.1f} s"
                print(shown(text, _LONGEST), flush=True)
        if self.json_lines:
            print(record.line(), flush=True)

    def _record_failure(self, record: Record) -> None:
        if self.manifest is not None:
            try:
                self.manifest.append(record)
            except VARestorerError as error:
                print(f"varestorer: {shown(error, _LONGEST)}", file=sys.stderr)

    def _print_json(self, values: dict[str, Any]) -> None:
        import json

        print(json.dumps(values), flush=True)


def _reason(error: BaseException) -> str:
    """Return a sentence; of an unexpected error with its class."""
    from ..tiles.batching import is_out_of_memory

    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return "there is not enough memory. Use a smaller --upscale."
    if isinstance(error, VARestorerError):
        return str(error)
    return f"{type(error).__name__}: {str(error)[:200]}. --debug shows where it comes from."


def _check_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ImageError(f"{path} is a folder, a pipe or a device, a picture file was expected.")


def _check_replaceable(path: Path) -> None:
    """Refuse, before any work, a result in the place of a write-protected file."""
    if path.exists() and not path.stat().st_mode & 0o222:
        raise ImageError(f"{path} is write-protected and was not replaced.")
