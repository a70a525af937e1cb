"""Converting files of the host's model folders to safetensors."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...varestorer_core.errors import SettingError, VARestorerError
from ...varestorer_core.official_files import VARESTORER
from .files import ADAPTER_SUFFIX, PICKLES
from .progress import Progress

DTYPES = ("auto", "bf16", "fp16", "fp32", "keep")
_FOLDERS = ("diffusion_models", "vae", "text_encoders", "upscale_models", "loras")
_ADAPTERS = "loras"


def convertible_files() -> list[str]:
    """Return the files that are not safetensors yet, as "folder/name", or the official file if there are none."""
    found = [
        f"{folder}/{name}"
        for folder in _FOLDERS
        for name in folder_paths.get_filename_list(folder)
        if name.lower().endswith(PICKLES)
    ]
    return found or [f"{VARESTORER.folder}/{VARESTORER.name}"]


def locate(file: object) -> Path | None:
    """Return the path of a menu entry, or None."""
    folder, _, name = file.partition("/") if isinstance(file, str) else ("", "", "")
    if folder not in _FOLDERS or name not in folder_paths.get_filename_list(folder):
        return None
    path = folder_paths.get_full_path(folder, name)
    return None if path is None else Path(path)


def _destination(source: Path, file: str, *, adapter_only: bool) -> tuple[str, Path]:
    """Return the folder and the path of the result of a menu entry."""
    if not adapter_only:
        return file.partition("/")[0], source.with_suffix(".safetensors")
    place = Path(folder_paths.get_folder_paths(_ADAPTERS)[0])
    return _ADAPTERS, place / f"{source.stem}{ADAPTER_SUFFIX}.safetensors"


_ABSENT: dict[Path, int] = {}
"""How often the result of a conversion was found to be absent before a run."""


def conversion_state(file: object, *, adapter_only: bool) -> str:
    """Return a text that changes if the result of a conversion is deleted or its source is replaced.

    ComfyUI's cache compares it before every run. It stays the same while the written file is there.
    """
    source = locate(file)
    if source is None or not isinstance(file, str):
        return ""
    _, destination = _destination(source, file, adapter_only=adapter_only)
    if not destination.exists():
        _ABSENT[destination] = _ABSENT.get(destination, 0) + 1
    found = source.stat()
    return f"{_ABSENT.get(destination, 0)} {found.st_size} {found.st_mtime_ns}"


def convert_file(file: str | None, dtype: str, *, adapter_only: bool) -> str:
    """Convert a menu entry to safetensors in the same folder, and return the result as "folder/name".

    Adapters are written to models/loras, where Load VARestorer Adapter finds them.

    Raises:
        SettingError: if no file is chosen, it does not exist, or the result already exists.
        CheckpointError: if the file cannot be converted.
    """
    from ...varestorer_core.checkpoint import convert

    if not file:
        raise SettingError("No file is chosen. Choose one in the menu of VARestorer Convert Model.")
    source = locate(file)
    if source is None:
        raise SettingError(f"{file!r} is not in the models folder. Press R to refresh the menus.")
    folder, destination = _destination(source, file, adapter_only=adapter_only)
    if destination.exists():
        raise SettingError(
            f"{destination.name} is in models/{folder} already, and nothing was written. Load that one, or "
            "move it away."
        )
    try:
        convert(
            source,
            destination,
            dtype=None if dtype == "auto" else dtype,
            adapter_only=adapter_only,
            on_progress=Progress(),
        )
    except OSError as error:
        raise VARestorerError(
            f"{destination.name} cannot be written to models/{folder}: {error.strerror or error}."
        ) from error
    return f"{folder}/{destination.name}"
