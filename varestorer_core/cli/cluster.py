"""`--cluster` of restore and degrade: processing by a pool of Ray actors, each with its own copy of the models.

Ray Data passes the jobs, small groups of file names, to the actors; these read, process and write, so that no pixels
travel. Each record comes back and is appended to the manifest by the command that was started. Ray starts an actor that
died anew and repeats its group; results are written atomically under names of their own, so repeating is harmless.
Nothing else imports Ray.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import VARestorerError
from . import UsageError
from .batch import Batch, Steps, Task, Worker, failure_kept
from .cluster_resources import Cluster, Share, actor_count, check_address
from .jobs import Job
from .manifest import Record, file_hash
from .progress import run_bar
from .remote import Staging

_OWN_ERROR = re.compile(r"varestorer_core\.[\w.]+Error: ")
"""Start of the last line of a traceback that ends with one of our errors."""
_STDERR = 2
"""File descriptor."""
_MOST_IN_A_GROUP = 64
_GROUPS_FOR_EACH = 16
"""Minimum number of groups per actor, so that all of them end at about the same time."""


@dataclass(frozen=True)
class ActorSettings:
    """Settings of an actor, which are sent to each of them."""

    steps: Steps
    make_worker: Callable[[], Worker]
    """Loads the models; called once in each actor."""
    device: str
    threads: int


class PictureActor:
    """Processes groups of pictures; created once in each actor."""

    def __init__(self, given: ActorSettings, recorded: dict[str, Any], numbered: bool) -> None:
        import torch

        torch.set_num_threads(given.threads)
        self._steps, self._batch = given.steps, Batch("done", recorded, numbered)
        self._work = given.make_worker()

    def __call__(self, group: dict[str, Any]) -> dict[str, list[str]]:
        """Process rows of JSON and return a record for each, as JSON."""
        return {"record": [self._done(json.loads(row)) for row in group["row"]]}

    def _done(self, row: dict[str, Any]) -> str:
        batch = self._batch
        with Staging() as staging:
            job = Job(
                staging.local(row["source"], "source"),
                staging.local(row["target"], "result"),
                None if row["compare"] is None else staging.local(row["compare"], "result"),
            )
            task = batch.task(job, row["number"])
            task.on_encoded = _keep_hash
            task.quiet = True
            with failure_kept(task):
                staging.fetch(job.source)
                task.kept = _is_kept(task, row["known"], staging)
            if task.error is None and not task.kept and batch.read(task, self._steps):
                batch.work(task, self._work)
                batch.write(task, self._steps)
                with failure_kept(task):
                    for written in (job.compare, job.target):
                        if task.error is None and written is not None:
                            staging.store(written)
            error = None if task.error is None else staging.named(batch.reason(task))
        values = {**asdict(task.record), "error": error, "seconds": round(task.seconds, 3)}
        return json.dumps({"number": row["number"], "kept": task.kept, "record": values})


def _keep_hash(task: Task, content: memoryview, _: tuple[int, int]) -> None:
    task.record.result_hash = hashlib.sha256(content).hexdigest()


def _is_kept(task: Task, known: dict[str, str], staging: Staging) -> bool:
    """Hash the source of a task, and return whether its result exists according to the manifest."""
    try:
        task.record.hash = file_hash(task.job.source) if task.job.source.is_file() else None
        wanted = known.get(task.record.hash or "")
        if wanted is None:
            return False
        staging.fetch(task.job.target)
        found = file_hash(task.job.target)
    except OSError:
        return False
    if found == wanted:
        task.record.result_hash = found
    return found == wanted


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """End the process with exit code 143 on SIGTERM; Ray's handler prints a stack of C++ code and dumps the core."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if usual is None else usual)


@exit_on_sigterm()
def run_on_cluster(
    cluster: Cluster,
    workers: int | None,
    given: ActorSettings,
    jobs: Sequence[Job],
    batch: Batch,
) -> int:
    """Process every job on a cluster and report the outcomes; return the number of actors.

    Args:
        cluster: the result of `connected`.
        workers: number of actors; None means as many as the cluster has room for.

    Raises:
        UsageError: if a cluster that cannot grow has no room for them.
        VARestorerError: if the actors cannot run.
    """
    ray = cluster.ray
    data = import_module("ray.data")
    try:
        share = Share("CPU", given.threads) if given.device == "cpu" else Share("GPU", 1)
        count = actor_count(cluster, workers, share)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        size = max(1, min(_MOST_IN_A_GROUP, len(jobs) // (count * _GROUPS_FOR_EACH)))
        rows = [{"row": json.dumps(_row(job, i, batch))} for i, job in enumerate(jobs)]
        # Ray Data restarts actors that died and repeats their groups, as often as needed.
        results = data.from_items(rows, override_num_blocks=-(-len(rows) // size)).map_batches(
            PictureActor,
            batch_size=None,
            fn_constructor_args=(given, batch.settings, batch.numbered),
            compute=data.ActorPoolStrategy(size=count),
            **share.options(),
        )
        with run_bar(len(jobs)) as bar:
            for row in results.iter_rows():
                found = json.loads(row["record"])
                task = batch.task(jobs[found["number"]], found["number"], bar)
                _told(batch, task, found)
    except ray.exceptions.RayError as error:
        raise VARestorerError(ending(error)) from error
    finally:
        ray.shutdown()
    return count


def ending(error: Exception) -> str:
    """Return why Ray ended the run: our own sentence, if an actor raised one, such as for a damaged model file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    if (own := _OWN_ERROR.match(last)) is not None:
        return last[own.end() :]
    return f"The cluster ended the run: {last.rstrip('.')}. Recorded pictures are done; --skip-existing continues."


def _row(job: Job, number: int, batch: Batch) -> dict[str, Any]:
    known = {}
    if batch.manifest is not None and batch.skip_existing:
        known = batch.manifest.known(batch.task(job, number).record)
    compare = None if job.compare is None else str(job.compare.absolute())
    source, target = str(job.source.absolute()), str(job.target.absolute())
    return {
        "number": number,
        "source": source,
        "target": target,
        "compare": compare,
        "known": known,
    }


def _told(batch: Batch, task: Task, found: dict[str, Any]) -> None:
    """Record and print the outcome of an actor's task, with the user's own file names."""
    record = Record(**found["record"])
    record.input, record.result, record.settings = (
        task.record.input,
        task.record.result,
        task.record.settings,
    )
    task.record, task.kept, task.seconds = record, found["kept"], record.seconds
    for text in record.notes:
        task.say(text)
    if record.error is not None:
        task.error = VARestorerError(record.error)
    elif not task.kept and batch.manifest is not None:
        batch.manifest.append(record)
    batch.tell(task)


def check_ray() -> None:
    """Import Ray with as little output as possible.

    Raises:
        UsageError: if it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's C++ code prints errors about each actor that ends, past the options of `ray.init`.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise UsageError(
            "--cluster needs Ray, which is not installed. Run: pip install 'ray[data]'"
        ) from error


@contextmanager
def _without_native_output() -> Iterator[None]:
    """Drop what C++ code prints on stderr: Ray reports its log level there when it connects."""
    sys.stderr.flush()
    try:
        saved = os.dup(_STDERR)
    except OSError:  # closed
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(saved, _STDERR)
        os.close(saved)


def connected(address: str) -> Cluster:
    """Connect to a cluster.

    Args:
        address: a Ray address, or "auto" for the running cluster or, if there is none, a new one on this machine.

    Raises:
        UsageError: without Ray, or if the cluster cannot be reached.
    """
    check_ray()
    check_address(os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address)
    ray = import_module("ray")
    # Ray Data uses its own loggers, regardless of the options of `ray.init`, and prints tracebacks of errors that it
    # raises as well.
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _without_native_output():
            if address != "auto":
                ray.init(address=address, **quiet)
                return Cluster(ray, own=address == "local")
            try:
                ray.init(address="auto", **quiet)
                return Cluster(ray, own=False)
            except ConnectionError:
                ray.init(address="local", include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"--cluster {address}: no Ray cluster answers there ({first}).") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # Ray waits 30 s for a cluster that it starts, then raises the base class itself.
        raise UsageError(
            f"--cluster {address}: Ray did not start on this machine ({str(error).rstrip('.')}). Run the command again "
            "when other programs have ended, or start Ray with `ray start --head` first."
        ) from error
    return Cluster(ray, own=True)
