"""The prompt of each picture of `restore`: from --captions, by --captioner, or --prompt for all others."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..wording import counted
from . import UsageError, note
from .captions import read_captions
from .jobs import Job
from .manifest import file_mark

if TYPE_CHECKING:
    import torch

    from .batch import Batch


def add_caption_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a prompt for each picture."""
    group = parser.add_argument_group("a prompt for each picture (needs --text-encoder)")
    group.add_argument(
        "--captions",
        metavar="SOURCE",
        help="beside: photo.txt or photo.jpg.txt beside photo.jpg; or a CSV file with the columns file and caption. "
        "Pictures without a caption use --prompt",
    )
    group.add_argument(
        "--captioner",
        metavar="FOLDER",
        help="local copy of blip-image-captioning-large or Florence-2, which describes every picture without a caption",
    )


@dataclass
class Captions:
    """The captions of a run."""

    jobs: Sequence[Job] = ()
    texts: dict[Path, str] = field(default_factory=dict)
    """Caption of each picture, by its path; those of the captioner are added by `prompts`."""
    captioner: str | None = None
    """Folder of the captioner, which describes pictures without a caption."""
    written: set[Path] = field(default_factory=set)
    """Pictures that the captioner described."""
    done: bool = False

    def recorded(self) -> dict[Path, dict[str, Any]]:
        """Return what the results of single pictures depend on, for the manifest, by the path of the picture.

        The captioner's text follows from the picture and the captioner. So a continued run need not caption pictures
        that are done.
        """
        own = {path: {"prompt": text} for path, text in self.texts.items()}
        mark = file_mark(self.captioner)
        if mark is not None:
            others = (job.source for job in self.jobs if job.source not in own)
            own |= {path: {"captioner": mark} for path in others}
        return own

    def of(self, picture: Path) -> str | None:
        """Return the caption of a picture; None means the prompt of the run."""
        return self.texts.get(picture)

    def note(self, picture: Path) -> str | None:
        """Return what to tell about a picture that the captioner described."""
        if picture not in self.written:
            return None
        text = self.texts.get(picture)
        return f"has the caption: {text}" if text else "got no caption from the captioner"

    def prompts(self, batch: Batch, device: torch.device, dtype: torch.dtype) -> Iterable[str]:
        """Return an iterable of every caption. The captioner is loaded and released before the first."""
        return self._prompts(batch, device, dtype) if self.jobs else ()

    def _prompts(self, batch: Batch, device: torch.device, dtype: torch.dtype) -> Iterator[str]:
        if self.captioner is not None and not self.done:
            self._describe(self.captioner, batch, device, dtype)
            self.done = True
        yield from dict.fromkeys(self.texts.values())

    def _describe(
        self, folder: str, batch: Batch, device: torch.device, dtype: torch.dtype
    ) -> None:
        from tqdm import tqdm

        from ..captioner import load_captioner
        from ..pictures import read_picture
        from .captions import MAX_CHARACTERS

        pending = [
            job
            for index, job in enumerate(self.jobs)
            if job.source not in self.texts and not _is_done(batch, job, index)
        ]
        if not pending:
            return
        captioner = load_captioner(folder, device=device, dtype=dtype)
        for job in tqdm(pending, desc="captions", unit="picture", leave=False, disable=None):
            try:
                rgb = read_picture(job.source).rgb
            except Exception:
                continue  # it fails again when it is restored, and is reported then
            self.written.add(job.source)
            if text := captioner.describe(rgb)[:MAX_CHARACTERS]:
                self.texts[job.source] = text


def _is_done(batch: Batch, job: Job, index: int) -> bool:
    try:
        return batch.skip_existing and batch.is_done(batch.task(job, index))
    except Exception:
        return True  # not a file, or unreadable: reported when it is restored


def planned_captions(args: argparse.Namespace, jobs: Sequence[Job]) -> Captions:
    """Return the captions of the options, and print which pictures have none.

    Raises:
        UsageError: for options that do not belong together, or captions that cannot be read.
        CheckpointError: for a folder that is not a captioner.
    """
    if args.captions is None and args.captioner is None:
        return Captions()
    if args.cluster is not None:
        raise UsageError(
            "--captions and --captioner are for runs on this machine: leave them out with --cluster."
        )
    if args.captioner is not None:
        _check_captioner(args)
    texts: dict[Path, str] = {}
    strangers = 0
    if args.captions is not None:
        texts, strangers = read_captions(args.captions, [job.source for job in jobs])
    if not texts and args.captioner is None:
        raise UsageError(
            f"--captions {args.captions}: none of the pictures ({len(jobs)}) has a caption there."
        )
    if strangers:
        note(f"{args.captions}: {counted(strangers, 'row')} of no picture of this run, ignored")
    missing = [job.source.name for job in jobs if job.source not in texts]
    if missing and args.captioner is None:
        used = "no prompt" if args.prompt is None else "the text of --prompt"
        note(
            f"{len(missing)} of {counted(len(jobs), 'picture')} without a caption (first: {missing[0]}): restored with "
            f"{used}"
        )
    return Captions(jobs, texts, args.captioner)


def _check_captioner(args: argparse.Namespace) -> None:
    from ..captioner import check_captioner

    if args.prompt is not None:
        raise UsageError(
            "--prompt is for pictures without a caption, and --captioner describes all of those: leave out one."
        )
    if not Path(args.captioner).is_dir():
        raise UsageError(f"--captioner {args.captioner}: no such folder.")
    check_captioner(args.captioner)
