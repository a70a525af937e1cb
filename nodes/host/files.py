"""Model files: menus of the host's folders, resolving names, and safe reading."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from pickle import UnpicklingError
from typing import Any

import comfy.utils
import folder_paths

from ...varestorer_core.assets import asset_path
from ...varestorer_core.errors import CheckpointError
from ...varestorer_core.official_files import VARESTORER, OfficialFile, official_file
from ...varestorer_core.wording import shown

BUNDLED = "varestorer-tiny (bundled)"
"""Menu entry of the bundled model; stored in workflows, so it never changes."""
BUNDLED_CRISP = "varestorer-tiny crisp (bundled)"
"""Menu entry of the bundled VAE for crisp pictures."""

BUNDLED_ADAPTER = "varestorer-tiny {} (bundled)"
"""Menu entry of a bundled adapter, with its task in words."""

_EXTENSIONS = (".safetensors", ".sft", ".pth", ".pt", ".ckpt", ".bin")
PICKLES = (".pth", ".pt", ".ckpt", ".bin")
"""Files that are not safetensors."""
ADAPTER_SUFFIX = "_adapter"
"""End of the names of adapters that were taken out of a model."""
_GOES_TO = " -> models/"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(\.\w+)$")


def file_names(folder: str, official: OfficialFile, *, bundled: tuple[str, ...] = ()) -> list[str]:
    """Return the menu of one of the host's model folders, the bundled files first.

    ComfyUI shows an empty menu as "undefined", so it contains a hint with the file and its folder instead. The hint is
    longer than the file's name; otherwise ComfyUI would treat the file as present and not offer a download. The menu
    of adapters also lists models that may contain one.
    """
    names = [
        name
        for place in _places(folder)
        for name in folder_paths.get_filename_list(place)
        if name.lower().endswith(_EXTENSIONS) and (place == folder or _has_adapter(name))
    ]
    names = list(dict.fromkeys(names))
    if bundled:
        return [*bundled, *names]
    return names or [f"{official.name}{_GOES_TO}{official.folder}"]


def missing_reason(
    folder: str, name: object, official: OfficialFile, *, bundled: tuple[str, ...] = ()
) -> str | None:
    """Return why a menu entry cannot be used, in one sentence, or None if it can.

    Of a split model, all parts are looked for.

    Args:
        name: None if it comes through a link and is not known yet; scripts may send any type.
        official: the official file of this kind, named in the message if the missing file is unknown.
        bundled: entries of bundled files.
    """
    if name is None or name in bundled:
        return None
    if not isinstance(name, str):  # the host does not check what scripts send
        return f"The name of a file of models/{folder} was expected, got {shown(name)}. Choose one in the menu."
    wanted = name.partition(_GOES_TO)[0]
    absent = [part for part in _all_parts(wanted) if not _place_of(folder, part)]
    if not absent and wanted == name:
        return None
    absent, name = absent or [wanted], wanted
    stem = PurePath(name).stem
    if folder == "loras" and stem.endswith(ADAPTER_SUFFIX):
        origin = f"{stem.removesuffix(ADAPTER_SUFFIX)}.pth"
        known = official_file(origin)
        source = f" ({known.source})" if known else ""
        return (
            f"{name!r} is not in models/{folder}. VARestorer Convert Model writes it there, with part set to adapter, "
            f"out of {origin}{source}. Then press R to refresh the menus."
        )
    # A known file keeps its own source even if it belongs in another folder, such as a VAE in the
    # menu of models, because the user asked for this file.
    known = official_file(name)
    source = (known or official).source
    place = known.folder if known and known.folder in _places(folder) else folder
    choice = f", or choose {bundled[0]!r}" if bundled else ""
    are, them = ("is", "it") if len(absent) == 1 else ("are", "them")
    return (
        f"{' and '.join(map(repr, absent))} {are} not in models/{place}. Put {them} there ({source}) and "
        f"press R to refresh the menus{choice}."
    )


def _has_adapter(name: str) -> bool:
    """Return whether a model may contain an adapter, without opening the file."""
    return name.lower().endswith(PICKLES) or official_file(name) is VARESTORER


def _places(folder: str) -> tuple[str, ...]:
    """Return the folders of a menu; adapters may also be inside models."""
    return (folder, "diffusion_models") if folder == "loras" else (folder,)


def _place_of(folder: str, name: str) -> str | None:
    """Return the folder that contains a menu entry, or None."""
    return next((p for p in _places(folder) if name in folder_paths.get_filename_list(p)), None)


def read_model(
    folder: str, name: str | None, bundled: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the weights of a menu entry.

    Args:
        bundled: assets by their menu entries.

    Returns:
        The state dict and the metadata (empty if the file has none). All files of a split model
        ("-00001-of-00002") are read, whichever of them was chosen.

    Raises:
        CheckpointError: if the file is missing or damaged, or contains objects other than tensors.
    """
    if not name:
        raise CheckpointError(
            f"No file is chosen. Choose one of models/{folder} in the menu of the loader."
        )
    if bundled is not None and name in bundled:
        return _read(asset_path(bundled[name]), name)
    state_dict: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for part in _all_parts(name):
        path = folder_paths.get_full_path(_place_of(folder, part) or folder, part)
        if path is None:
            raise CheckpointError(
                f"{part} is not in models/{folder}. Put it there, under this name, and try again."
            )
        tensors, values = _read(Path(path), part)
        state_dict.update(tensors)
        metadata.update(values)
    return state_dict, metadata


def _all_parts(name: str) -> list[str]:
    """Return the names of all files of a split model, or the name alone."""
    match = _SHARD.search(name)
    if match is None:
        return [name]
    stem, total, extension = name[: match.start()], match[2], match[3]
    return [f"{stem}-{part:05d}-of-{total}{extension}" for part in range(1, int(total) + 1)]


def _read(path: Path, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    from ...varestorer_core.checkpoint.files import check_file, read_file
    from ...varestorer_core.lora.scaling import peft_config

    read = comfy.utils.load_torch_file
    wants_metadata = "return_metadata" in inspect.signature(read).parameters
    options = {"return_metadata": True} if wants_metadata else {}
    if _is_misnamed(path):
        state_dict, metadata = read_file(path)
        return state_dict, {**metadata, **peft_config(path)}
    check_file(path)
    try:
        result = read(str(path), safe_load=True, **options)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{name} is not a plain weights file: it contains something other than tensors, or is "
            "damaged. It was refused and nothing in it was run. Use the official file or a "
            ".safetensors."
        ) from error
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        RuntimeError,
        EOFError,
        AttributeError,
    ) as error:
        raise CheckpointError(
            f"{name} cannot be read: it is damaged, incomplete or not a model file. Download it again."
        ) from error
    except Exception as error:
        # The safetensors reader raises its own exception type, which this module does not import.
        if type(error).__name__ != "SafetensorError":
            raise
        raise CheckpointError(
            f"{name} cannot be read: it is damaged, incomplete or not a safetensors file. Download it "
            "again."
        ) from error
    state_dict, metadata = result if wants_metadata else (result, None)
    return state_dict, {**(metadata or {}), **peft_config(path)}


def _is_misnamed(path: Path) -> bool:
    """Return whether a file's format differs from its extension, by which the host selects the reader."""
    from ...varestorer_core.checkpoint.files import file_format

    named_safetensors = path.suffix.lower() in (".safetensors", ".sft")
    found = file_format(path)
    return bool(found) and (found == "safetensors") != named_safetensors
