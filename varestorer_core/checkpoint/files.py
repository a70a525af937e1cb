"""Reading of checkpoint files and folders. Formats are identified by their first bytes, never by name.

Files are untrusted: any exception of a parser becomes a CheckpointError (`damage_named`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import json_text
from ..errors import CheckpointError, VARestorerError
from ..lora.scaling import PEFT_WEIGHTS, peft_config
from ..regular import check_regular
from ..tiles.batching import is_out_of_memory
from ..wording import shown, system_reason
from .keys import is_text_encoder_key
from .pickles import check_pickle, read_pickle
from .safetensors_file import MAX_HEADER, check_header, read_safetensors
from .state_dict import unwrap

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin", *PEFT_WEIGHTS)
_SAFETENSORS_SUFFIXES = (".safetensors", ".sft")


def read_checkpoint(
    path: str | Path, *, kind: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a checkpoint and its metadata (empty for pickles).

    Tensors are backed by the memory-mapped file if the format allows, so memory fills only as they are used.

    Args:
        path: a safetensors file, a PyTorch pickle (opened with `weights_only`), the folder or
            index file of a Hugging Face text encoder, of which the encoder part is read, or the folder of an adapter
            that PEFT saved, whose configuration is added to the metadata.
        kind: "transformer" or "tokenizer", to choose if a file holds both.

    Raises:
        CheckpointError: if there is no such file or it is not a checkpoint.
    """
    path = Path(path)
    with damage_named(path.name):
        if path.is_dir():
            return _read_folder(path)
        _check_path(path)
        if path.name.endswith(".index.json"):
            return _read_shards(path)
        loaded, metadata = read_file(path)
        metadata = {**metadata, **peft_config(path)}
        return unwrap(loaded, kind, name=path.name, consume=True), metadata


def checkpoint_files(path: Path) -> list[Path]:
    """Return the files that `read_checkpoint` reads for a path.

    Raises:
        CheckpointError: if one of them does not exist, or is not a file.
    """
    if path.is_dir():
        path = _file_of_folder(path)
    _check_path(path)
    if not path.name.endswith(".index.json"):
        return [path]
    shards = [path.with_name(name) for name in sorted(set(_shard_names(path).values()))]
    for shard in shards:
        _check_path(shard)
    return shards


def file_format(path: Path) -> str:
    """Return the format of a file by its first bytes: "safetensors", "zip", "pickle", or "" for any other.

    A safetensors file starts with the length of its header, which may look like the signature of another format, so
    the brace that opens the header decides. No pickle or zip archive of PyTorch has one there.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
        return "safetensors"
    if head[:2] == b"PK":
        return "zip"
    return "pickle" if head[:1] == b"\x80" else ""


def read_file(path: Path, keep: Callable[[str], bool] | None = None) -> tuple[Any, dict[str, str]]:
    """Return the unchanged content of one file and its metadata, by its format instead of its name."""
    found = file_format(path)
    if found in ("zip", "pickle"):
        return read_pickle(path, zipped=found == "zip"), {}
    if found == "safetensors" or path.suffix in _SAFETENSORS_SUFFIXES:
        return read_safetensors(path, keep)
    with path.open("rb") as file:
        head = file.read(8)
    raise CheckpointError(
        f"{path.name} is neither a safetensors file nor a PyTorch checkpoint (it starts with "
        f"{head!r}). Choose the file with the model's weights."
    )


def check_file(path: Path) -> None:
    """Check what another reader leaves unchecked: that loading a file takes neither too long nor too much memory.

    Raises:
        CheckpointError: if it does, or if the file is damaged.
    """
    found = file_format(path)
    if found in ("zip", "pickle"):
        check_pickle(path, zipped=found == "zip")
    elif found == "safetensors":
        check_header(path)


def _check_path(path: Path) -> None:
    if not path.exists():
        if path.is_symlink():
            raise CheckpointError(
                f"{path} is a link to a file that does not exist, or to itself. Replace it by the file."
            )
        raise CheckpointError(f"{path} does not exist. Check the path.")
    check_regular(path, CheckpointError)
    with path.open("rb") as file:
        _refuse_strangers(path, file.read(512))


def _refuse_strangers(path: Path, head: bytes) -> None:
    """Raise an error for files that are often downloaded by mistake."""
    if not head:
        raise CheckpointError(f"{path.name} is empty: the download failed. Download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path.name} is a Git LFS pointer, not the model. Run `git lfs pull` in its "
            "repository, or download the file itself from the website."
        )
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{path.name} is a web page that was saved instead of the model. Use the "
            "website's download button."
        )
    if head.startswith(b"GGUF"):
        raise CheckpointError(
            f"{path.name} is a GGUF file, which is not supported. Use safetensors or .pth."
        )


def _file_of_folder(folder: Path) -> Path:
    for name in (*_INDEXES, *_SINGLE):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder} is a folder without {_SINGLE[0]} or {_INDEXES[0]}. Choose a file, the "
        "folder of flan-t5-xl, or that of an adapter that PEFT saved."
    )


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    path = _file_of_folder(folder)
    if path.name in _INDEXES:
        return _read_shards(path)
    tensors, metadata = read_checkpoint(path)
    return {k: v for k, v in tensors.items() if is_text_encoder_key(k)} or tensors, metadata


def _shard_names(index: Path) -> dict[str, str]:
    """Return the file name of each tensor of an index."""
    try:
        weight_map = dict(json_text.read(index)["weight_map"])
        # The index is untrusted: it may only name files in its own folder.
        names = {str(key): Path(str(file)).name for key, file in weight_map.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{index.name} is not the index of a sharded model. Download it again."
        ) from error
    return {key: file for key, file in names.items() if is_text_encoder_key(key)} or names


def _read_shards(index: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    wanted = _shard_names(index)
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(wanted.values())):
        shard = index.with_name(file)
        if not shard.is_file():
            raise CheckpointError(
                f"{shard.name} is missing next to {index.name}. Download all parts of the model."
            )
        _check_path(shard)
        loaded, _ = read_file(shard, lambda key: key in wanted)
        part = unwrap(loaded, name=shard.name, consume=True)
        tensors.update((key, value) for key, value in part.items() if key in wanted)
    missing = [key for key in wanted if key not in tensors]
    if missing:
        raise CheckpointError(
            f"{index.name} lists {len(missing)} tensors that are not in its files (first: {shown(missing[0])}). "
            "Download all parts of the model again."
        )
    return tensors, {}


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
