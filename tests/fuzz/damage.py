"""Damaging of inputs by the values of a random generator."""

import copy
import json


def damaged(data, random_state):
    """Return bytes with changes as from transfers, disks and attackers."""
    data = bytearray(data)
    for _ in range(random_state.choice((1, 1, 2, 5))):
        if not data:
            break
        kind = random_state.randrange(7)
        # The structure is at the beginning and, of zips, at the end.
        limit = len(data) if random_state.random() < 0.4 else min(len(data), 600)
        place = random_state.randrange(limit)
        if random_state.random() < 0.15:
            place = max(0, len(data) - 1 - random_state.randrange(min(len(data), 400)))
        if kind == 0:
            data[place] ^= 1 << random_state.randrange(8)
        elif kind == 1:
            data[place] = random_state.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + random_state.randrange(1, 64)]
        elif kind == 4:
            data[place:place] = random_state.randbytes(random_state.randrange(1, 64))
        elif kind == 5:
            data[place : place + 8] = random_state.choice(
                (b"\xff" * 8, b"\0" * 8, b"PK\x03\x04", b"\x80\x02}q")
            )
        else:
            data += data[place : place + 100]
    return bytes(data)


STRANGE = (
    None, True, -1, 0, 1, 2**31, 2**64, -(2**70), 1e308, float("nan"), float("inf"), "", "x", "../../etc/passwd",
    "\x1b[2J", "\ud800", [], {}, [[]], ["a"] * 50, {"a": {}},
)  # fmt: skip


def damaged_values(values, random_state):
    """Return a JSON document with some values replaced, missing or added."""
    values = json.loads(json.dumps(values))
    for _ in range(random_state.choice((1, 2, 4))):
        node = values
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = random_state.choice(keys)
            if isinstance(node[key], (dict, list)) and node[key] and random_state.random() < 0.6:
                node = node[key]
                continue
            if isinstance(node, dict) and random_state.random() < 0.2:
                del node[key]
            else:
                node[key] = copy.deepcopy(random_state.choice(STRANGE))
            break
    return values
