"""Output of `varestorer distill` while it runs: a progress bar for each stage, and the log of the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..distill.run import OnProgress


def show_log() -> None:
    """Print the log of the training on stderr."""
    import logging

    logging.basicConfig(format="varestorer: %(message)s")
    logging.getLogger(__name__.rpartition(".cli.")[0]).setLevel(logging.INFO)


class Bars:
    """One progress bar at a time, named after the current work."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""

    def __enter__(self) -> OnProgress:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, what: str, done: int, total: int, loss: float | None) -> None:
        from tqdm import tqdm

        if what != self._what:
            if self._bar is not None:
                self._bar.close()
            self._bar, self._what = tqdm(desc=what, total=total, initial=done - 1), what
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._bar.update(done - self._bar.n)
