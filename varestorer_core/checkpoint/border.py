"""Error handling for untrusted files: any exception of a parser becomes a CheckpointError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import CheckpointError, VARestorerError
from ..tiles.batching import is_out_of_memory
from ..wording import shown, system_reason


@contextmanager
def damage_named(name: str, advice: str = "Download it again.") -> Iterator[None]:
    """Turn what is raised within the block into a CheckpointError about the file `name`.

    A VARestorerError passes unchanged, and so does an interruption. Code within the block must not call back into a
    host.

    Raises:
        CheckpointError: instead of any other exception.
    """
    try:
        yield
    except VARestorerError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or is_out_of_memory(error):
            raise CheckpointError(
                f"{name} cannot be loaded: there is not enough memory. Close other programs, or use a smaller model "
                "or weight type."
            ) from error
        if isinstance(error, OSError) and error.strerror:
            raise CheckpointError(f"{name} cannot be read: {system_reason(error)}.") from error
        reason = shown(f"{type(error).__name__}: {error}".rstrip(": "))
        raise CheckpointError(
            f"{name} is damaged and cannot be read ({reason}). {advice}"
        ) from error
