"""Steps of a restoration: read a picture, restore it on a device, write the result with the source's metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from .batch import Task
from .captioning import Captions
from .read_ahead import StoppedError

if TYPE_CHECKING:
    from torch import Tensor

    from ..pictures import Picture
    from ..restorer import Restorer
    from ..settings import RestoreSettings

GROUP_PIXELS = 2**22
"""Maximum number of pixels of results whose tiles share batches on a GPU."""


@dataclass
class Restoring:
    """The steps of `restore`; see `batch.Steps`."""

    settings: RestoreSettings
    strip: bool = False
    """Drop resolution, EXIF, XMP and IPTC."""
    neutral: bool = False
    """Write grey results for colour files without colour."""
    quality: int | None = None
    """Quality of JPEG and WebP, 1 to 100; None means 95."""
    captions: Captions = field(default_factory=Captions)

    def read(self, task: Task) -> int:
        """See `Steps.read`."""
        from ..pictures import read_picture, without_colors, without_metadata

        picture = read_picture(task.job.source)
        pixels = self._check_size(task, picture)
        picture = without_metadata(picture) if self.strip else picture
        if self.neutral and is_neutral(picture.rgb):
            picture = without_colors(picture)
        caption = self.captions.note(task.job.source)
        for text in [*picture.notes, *([] if caption is None else [caption])]:
            task.note(text)
        task.picture = picture
        return pixels

    def worker(
        self, restorer: Restorer, stop: Event | None = None
    ) -> Callable[[Sequence[Task]], None]:
        """Return a worker for one device."""

        def work(tasks: Sequence[Task]) -> None:
            def show(done: int, total: int) -> None:
                if stop is not None and stop.is_set():
                    raise StoppedError
                for task in tasks:
                    task.step(done, total)

            if len({self.captions.of(task.job.source) for task in tasks}) > 1:
                for task in tasks:  # tiles of several prompts cannot share a batch
                    work([task])
                return
            caption = self.captions.of(tasks[0].job.source)
            given: dict[str, Any] = {} if caption is None else {"prompt": caption}
            pictures: list[Any] = [task.picture for task in tasks]
            if len(tasks) == 1:
                rgb = pictures[0].rgb
                tasks[0].result = restorer.restore(rgb, self.settings, on_progress=show, **given)
                return
            rgbs = [picture.rgb for picture in pictures]
            restored = restorer.restore(rgbs, self.settings, on_progress=show, **given)
            for task, result in zip(tasks, restored, strict=True):
                task.result = result

        return work

    def write(self, task: Task) -> tuple[int, int]:
        """See `Steps.write`."""
        from ..pictures import write_picture
        from ..resize import enlarge_bicubic
        from .compare import side_by_side

        picture, restored = task.picture, task.result
        assert picture is not None
        size = restored.shape[-2], restored.shape[-1]
        if task.job.compare is not None:
            panels = [("input", enlarge_bicubic(picture.rgb, size)), ("restored", restored)]
            write_picture(task.job.compare, side_by_side(panels), icc_profile=picture.icc_profile)
        write_result(task, picture, quality=self.quality)
        return size

    def _check_size(self, task: Task, picture: Picture) -> int:
        from ..host_memory import check_results
        from ..pictures import check_target
        from ..resize import target_size

        height, width = target_size(*picture.size, self.settings.upscale)
        check_results([(height, width)])
        check_target(task.job.target, (height, width))
        return height * width


def is_neutral(rgb: Tensor) -> bool:
    """Return whether a picture (3, H, W) in [0, 1] has no colour: its channels differ by at most 1 / 255."""
    return bool((rgb.amax(0) - rgb.amin(0)).max() <= 1.001 / 255)


def write_result(task: Task, picture: Picture, *, quality: int | None = None) -> None:
    """Write a result with the source's properties as far as its format can hold them, and note the others."""
    from ..pictures import ALPHA_FORMATS, DEEP_FORMATS, FORMATS, write_picture
    from ..resize import resize_lanczos

    target, restored = task.job.target, task.result
    file_format = FORMATS[target.suffix.lower()]
    size = restored.shape[-2], restored.shape[-1]
    alpha, bit_depth = picture.alpha, picture.bit_depth
    if alpha is not None and file_format not in ALPHA_FORMATS:
        task.note(f"has transparency, which {file_format} cannot hold, so it is dropped")
        alpha = None
    if bit_depth != 8 and file_format not in DEEP_FORMATS:
        task.note(f"has {bit_depth} bits per channel, but {file_format} is written with 8")
        bit_depth = 8
    if picture.icc_profile is not None and file_format == "BMP":
        task.note("has a colour profile, which BMP cannot hold: colours will look different")
    write_picture(
        target,
        restored,
        None if alpha is None else resize_lanczos(alpha, size),
        bit_depth=bit_depth,
        icc_profile=picture.icc_profile,
        grey=picture.grey,
        metadata=picture.metadata,
        quality=quality,
        on_encoded=lambda content: task.will_write(content, size),
    )
