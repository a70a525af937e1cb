"""Decoding of the instructions that `torch.load(weights_only=True)` permits in a pickle.

`pickletools` decodes all of them, but leaves names in another form and takes several times as long.
"""

from __future__ import annotations

import pickle
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from typing import Any

Instruction = tuple[str, Any]
"""Name and argument; instructions that differ only in the encoding of their argument have the same name. The argument
is what PUSH pushes, the index of PUT and GET, the name of GLOBAL, the number of stack entries that TUPLE, APPEND and
SETITEM take (None: all since the last MARK), and the offset behind STOP."""

_PLAIN: dict[int, Instruction] = {
    code[0]: (name, value)
    for code, name, value in (
        (pickle.NONE, "PUSH", None),
        (pickle.NEWFALSE, "PUSH", False),
        (pickle.NEWTRUE, "PUSH", True),
        (pickle.MARK, "MARK", None),
        (pickle.EMPTY_TUPLE, "TUPLE", 0),
        (pickle.TUPLE1, "TUPLE", 1),
        (pickle.TUPLE2, "TUPLE", 2),
        (pickle.TUPLE3, "TUPLE", 3),
        (pickle.TUPLE, "TUPLE", None),
        (pickle.EMPTY_LIST, "LIST", None),
        (pickle.EMPTY_DICT, "DICT", None),
        (pickle.EMPTY_SET, "SET", None),
        (pickle.APPEND, "APPEND", 1),
        (pickle.APPENDS, "APPEND", None),
        (pickle.SETITEM, "SETITEM", 2),
        (pickle.SETITEMS, "SETITEM", None),
        (pickle.BINPERSID, "STORAGE", None),
        (pickle.REDUCE, "REDUCE", None),
        (pickle.NEWOBJ, "NEWOBJ", None),
        (pickle.BUILD, "BUILD", None),
    )
}
_NUMBERS: dict[int, tuple[str, struct.Struct]] = {
    code[0]: (name, struct.Struct(form))
    for code, name, form in (
        (pickle.BININT, "PUSH", "<i"),
        (pickle.BININT1, "PUSH", "<B"),
        (pickle.BININT2, "PUSH", "<H"),
        (pickle.BINFLOAT, "PUSH", ">d"),
        (pickle.BINGET, "GET", "<B"),
        (pickle.LONG_BINGET, "GET", "<I"),
        (pickle.BINPUT, "PUT", "<B"),
        (pickle.LONG_BINPUT, "PUT", "<I"),
        (pickle.PROTO, "PROTO", "<B"),
    )
}
_TEXTS: dict[int, struct.Struct] = {
    code[0]: struct.Struct(form)
    for code, form in (
        (pickle.BINUNICODE, "<I"),
        (pickle.SHORT_BINSTRING, "<B"),
        (pickle.LONG1, "<B"),
    )
}
_GLOBAL, _STOP = pickle.GLOBAL[0], pickle.STOP[0]
_BINUNICODE, _LONG1 = pickle.BINUNICODE[0], pickle.LONG1[0]


def instructions(data: bytes, start: int) -> Iterator[Instruction]:
    """Yield the instructions of a pickle that starts at an offset, without its protocol number.

    Raises:
        pickle.UnpicklingError: for one that `weights_only` does not permit.
        ValueError, IndexError, struct.error: if it is damaged or incomplete.
    """
    at = start
    while True:
        code = data[at]
        at += 1
        if code in _PLAIN:
            yield _PLAIN[code]
        elif code in _NUMBERS:
            name, form = _NUMBERS[code]
            (value,) = form.unpack_from(data, at)
            at += form.size
            if name != "PROTO":
                yield name, value
        elif code in _TEXTS:
            form = _TEXTS[code]
            (length,) = form.unpack_from(data, at)
            at += form.size + length
            if at > len(data):
                raise ValueError("the pickle ends within a text")
            yield "PUSH", _decoded(code, data[at - length : at])
        elif code == _GLOBAL:
            after_module = data.index(b"\n", at) + 1
            end = data.index(b"\n", after_module) + 1
            yield "GLOBAL", _full_name(data[at : after_module - 1], data[after_module : end - 1])
            at = end
        elif code == _STOP:
            yield "STOP", at
            return
        else:
            raise pickle.UnpicklingError(f"Unsupported operand {code}")


def _decoded(code: int, content: bytes) -> str | int:
    if code == _LONG1:
        return int.from_bytes(content, "little", signed=True)
    return content.decode("utf-8", "surrogatepass" if code == _BINUNICODE else "strict")


def _full_name(module: bytes, name: bytes) -> str:
    """Return the name of a function or class, which Python 2 may have written."""
    pair = module.decode(), name.decode()
    if pair in NAME_MAPPING:
        pair = NAME_MAPPING[pair]
    elif pair[0] in IMPORT_MAPPING:
        pair = IMPORT_MAPPING[pair[0]], pair[1]
    return ".".join(pair)
