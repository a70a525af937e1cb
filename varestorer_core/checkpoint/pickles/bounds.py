"""Bounds on what a PyTorch pickle may take, checked before PyTorch loads it.

`torch.load(weights_only=True)` runs no code from a pickle, but a pickle can keep it busy forever or fill the memory:
tuples of tuples that share their elements take exponential time to hash, integer keys can all collide, a byte array may
declare any length. Here, the instructions are followed with stand-ins for the objects, so that nothing is built, hashed
or allocated, and what PyTorch never writes for weights is rejected.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

from torch.serialization import get_safe_globals

from ...wording import shown
from .instructions import instructions
from .stand_ins import (
    BYTES,
    LATIN,
    Function,
    MappingOf,
    OutOfBoundsError,
    Result,
    Storage,
    TupleOf,
    check_tensor,
    expect,
    is_bytes,
    itemsize_of,
    key_of,
    natural,
    weight_of,
)

_MOST_STEPS = 2_000_000
"""A tensor takes about 70, with those that its calls count for."""
_STEPS_OF_A_CALL = 8
_MOST_COPIED = 50_000_000
"""Most elements and characters that all calls together may copy."""
_MOST_OTHER_KEYS = 20_000
"""Most elements of keys that are not text, whose hashes a file can choose; optimisers number their parameters."""

_MAPPINGS = ("collections.OrderedDict", "collections.Counter")
_TENSORS = tuple(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2"))
_TYPED = "torch._utils._rebuild_tensor_v3"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_SMALL = ("torch.device", "torch.serialization._get_layout", "builtins.complex")
_PYTORCH = ("torch.", "builtins.", "collections.", "_codecs.")
"""Prefixes of the functions that PyTorch permits by itself."""


class Bounds:
    """Follows the pickles of a file; its counts are those of all of them.

    Args:
        size: of the file in bytes. Its storages have no more.
        zipped: whether storages are described as in zip archives. Those have a record each, whose sizes are compared
            in `reading`.
    """

    def __init__(self, size: int, *, zipped: bool) -> None:
        self.storages: dict[str, Storage] = {}
        """Storages by their keys."""
        self._size, self._zipped = size, zipped
        self._permitted = _permitted_by_host()
        self._steps = self._copied = self._keys = self._stored = 0

    def follow(self, data: bytes, start: int = 0) -> tuple[Any, int]:
        """Follow the pickle that starts at an offset; return its value or a stand-in for it, and the offset behind.

        Raises:
            OutOfBoundsError: if it takes more than a checkpoint may.
            pickle.UnpicklingError: for what `weights_only` does not permit.
            Exception: of several classes, if it is damaged.
        """
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        memo: dict[int, Any] = {}
        for name, value in instructions(data, start):
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise OutOfBoundsError("has more instructions than a list of tensors needs")
            if name == "PUSH":
                self._stack.append(value)
            elif name == "PUT":
                memo[value] = self._stack[-1]
            elif name == "GET":
                self._stack.append(memo[value])
            elif name == "STOP":
                return self._stack.pop(), value
            else:
                self._do(name, value)
        raise AssertionError  # the instructions end with STOP or an error

    def _do(self, name: str, value: Any) -> None:
        if name == "MARK":
            self._below.append(self._stack)
            self._stack = []
        elif name == "TUPLE":
            made = TupleOf(self._taken(value))
            self._stack.append(made)
        elif name == "LIST":
            self._stack.append([])
        elif name == "DICT":
            self._stack.append(MappingOf())
        elif name == "SET":
            self._stack.append(Result("builtins.set"))
        elif name == "APPEND":
            items = self._taken(value)
            expect(self._stack[-1], list).extend(items)
        elif name == "SETITEM":
            items = self._taken(value)
            mapping: MappingOf = expect(self._stack[-1], MappingOf)
            mapping.length += len(items) // 2
            mapping.weight += self._hash(items[::2])
        else:
            self._steps += _STEPS_OF_A_CALL
            self._do_costly(name, value)

    def _do_costly(self, name: str, value: Any) -> None:
        stack = self._stack
        if name == "GLOBAL":
            if not value.startswith(_PYTORCH) and value not in self._permitted:
                raise pickle.UnpicklingError(f"GLOBAL {value}")
            stack.append(Function(value))
        elif name == "STORAGE":
            stack.append(self._storage(*expect(stack.pop(), TupleOf).items))
        elif name == "REDUCE":
            arguments = expect(stack.pop(), TupleOf).items
            stack.append(self._call(expect(stack.pop(), Function).path, arguments))
        elif name == "NEWOBJ":
            stack.pop()
            path: str = expect(stack.pop(), Function).path
            if path.startswith(_PYTORCH):  # PyTorch permits some, but writes none
                raise pickle.UnpicklingError(f"GLOBAL {path}")
            stack.append(Result(path))
        else:  # BUILD
            state, target = stack.pop(), stack[-1]
            if isinstance(target, MappingOf):
                self._copy([expect(state, MappingOf)])
            elif not isinstance(target, Result) or target.path.startswith(_PYTORCH):
                raise OutOfBoundsError("changes objects after they were created")

    def _taken(self, count: int | None) -> list[Any]:
        """Take a number of entries from the stack; None: all since the last mark."""
        if count is None:
            items, self._stack = self._stack, self._below.pop()
            return items
        start = len(self._stack) - count
        if start < 0:
            raise IndexError("too few entries on the stack")
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _hash(self, keys: Iterable[Any]) -> int:
        """Count keys that are not text; return their weight."""
        weight = sum(weight_of(key) for key in keys if not isinstance(key, str))
        self._keys += weight
        if self._keys > _MOST_OTHER_KEYS:
            raise OutOfBoundsError(f"has more than {_MOST_OTHER_KEYS:,} keys that are not text")
        return weight

    def _copy(self, values: Iterable[Any]) -> None:
        """Count the elements and characters of arguments, which their function may copy, and their keys."""
        for value in values:
            if isinstance(value, MappingOf):
                self._copied += value.length
                self._keys += value.weight
            elif isinstance(value, (str, list)):
                self._copied += len(value)
            elif isinstance(value, TupleOf):
                self._copied += len(value.items)
        self._hash(())
        if self._copied > _MOST_COPIED:
            raise OutOfBoundsError("copies its content too often")

    def _storage(
        self, word: Any, kind: Any, key: Any, location: Any, numel: Any, *view: Any
    ) -> Storage:
        if word != "storage" or len(view) != (0 if self._zipped else 1):
            raise ValueError("a storage is described in another way")
        expect(location, str)
        storage = Storage(natural(numel), itemsize_of(expect(kind, Function)))
        known = self.storages.setdefault(expect(key, str), storage)
        if known.numel != numel or known.num_bytes != storage.num_bytes:
            raise ValueError("a storage has two sizes")
        if known is storage:
            self._stored += storage.num_bytes
            if self._stored > self._size and not self._zipped:
                raise ValueError("storages are larger than the file")
        if view and view[0] is not None:
            view_key, start, length = expect(view[0], TupleOf).items
            expect(view_key, str)
            if natural(start) + natural(length) > numel:
                raise ValueError("a view is larger than its storage")
            return Storage(length, itemsize_of(kind))
        return storage

    def _call(self, path: str, arguments: tuple[Any, ...]) -> Any:
        """Return a stand-in for what a function or class returns for these arguments."""
        self._copy(arguments)
        if path == "torch._tensor._rebuild_from_type_v2":
            function, _, inner, _ = arguments
            if expect(function, Function).path == path:
                raise OutOfBoundsError("nests tensor types")
            return self._call(function.path, expect(inner, TupleOf).items)
        if path == _TYPED:  # its storage counts bytes
            storage, *layout = arguments
            dtype = itemsize_of(expect(layout[5], Function))
            check_tensor(Storage(expect(storage, Storage).num_bytes // dtype, dtype), *layout)
        elif path in _TENSORS:
            check_tensor(*arguments)
        elif path in _MAPPINGS or path == "builtins.set":
            return self._container(path, *arguments)
        elif path == "torch.Size":
            (sides,) = arguments
            return sides if isinstance(sides, TupleOf) else TupleOf(expect(sides, list))
        elif path == BYTES:
            if not all(codec in LATIN for codec in arguments[1:]):
                raise OutOfBoundsError("holds bytes in an unusual encoding")
        elif path == "builtins.bytearray":
            if arguments and not is_bytes(*arguments):
                raise OutOfBoundsError("holds a byte array that declares its length only")
        elif path in _SMALL:
            if not all(isinstance(value, (str, int, float)) for value in arguments):
                raise TypeError(f"{path} of other than numbers and text")
        elif path.startswith("torch._utils._rebuild") and path not in _PARAMETERS:
            raise OutOfBoundsError(
                f"holds sparse, quantised, nested or empty tensors ({shown(path)})"
            )
        elif path.startswith(_PYTORCH) and path not in _PARAMETERS:
            raise pickle.UnpicklingError(f"GLOBAL {path}")
        return Result(path)

    def _container(self, path: str, content: Any = (), *more: Any) -> Any:
        if more or not isinstance(content, (str, list, tuple, TupleOf, MappingOf)):
            raise OutOfBoundsError(f"fills a {path} in an unusual way")
        mapping = MappingOf()
        if isinstance(content, MappingOf):
            mapping.length, mapping.weight = content.length, content.weight
        elif not isinstance(content, str):
            elements = content.items if isinstance(content, TupleOf) else content
            pairs = path == "collections.OrderedDict"
            mapping.length = len(elements)
            mapping.weight = self._hash(map(key_of, elements) if pairs else elements)
        return Result(path) if path == "builtins.set" else mapping


def _permitted_by_host() -> set[str]:
    """Return the names of functions and classes that a program lets PyTorch call besides its own."""
    found = get_safe_globals()
    named = [entry if isinstance(entry, tuple) else (entry, "") for entry in found]
    return {name or f"{made.__module__}.{made.__qualname__}" for made, name in named}
