"""CPUs and GPUs of a Ray cluster, and the number of actors that they suffice for."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

from ..wording import counted
from . import UsageError, note

_ANSWER = 20.0
"""Seconds until the machine of an address must answer."""
_QUESTIONS, _PAUSE = 4, 0.5
"""Number of times, and seconds between them, to ask what is free: Ray's answer is some time old."""


@dataclass(frozen=True)
class Cluster:
    """A connection to a Ray cluster."""

    ray: Any
    """The module."""
    own: bool
    """Whether the command started it on this machine, so that it never grows."""


@dataclass(frozen=True)
class Share:
    """Resources of each actor."""

    resource: str
    """Ray's name: "CPU" or "GPU"."""
    amount: int

    def options(self) -> dict[str, int]:
        """Return the options of `map_batches`."""
        return {f"num_{self.resource.lower()}s": self.amount}


def check_address(address: str) -> None:
    """Check that something answers at the address of a cluster; Ray would try again for minutes.

    Raises:
        UsageError: if not, or if the text is not an address.
    """
    if address in ("auto", "local"):
        return
    place = address.removeprefix("ray://")
    if "://" in place:
        return  # of another service, for Ray to judge
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--cluster {address}: expected auto, HOST:PORT or ray://HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(f"--cluster {address}: no Ray cluster answers there ({error}).") from error


def cluster_device(cluster: Cluster, wanted: str) -> str:
    """Return the kind of device of the actors: that of --device, where auto is a GPU if the cluster has any."""
    if wanted == "auto":
        return "cuda" if cluster.ray.cluster_resources().get("GPU", 0) else "cpu"
    return wanted


def actor_count(cluster: Cluster, workers: int | None, share: Share) -> int:
    """Return the number of actors; print a note if some of them have to wait.

    Args:
        workers: the requested number; None means as many as the cluster has room for.

    Raises:
        UsageError: if a cluster that cannot grow has no room for all of them.
    """
    machines = [
        int(node["Resources"].get(share.resource, 0))
        for node in cluster.ray.nodes()
        if node["Alive"]
    ]
    room = sum(number // share.amount for number in machines)
    count = workers or max(1, room)
    each = counted(share.amount, share.resource)
    asked = f"{counted(count, 'actor')} with {each}{' each' if count > 1 else ''}"
    total = counted(sum(machines), share.resource)
    if count <= room:
        if not cluster.own and _in_use(cluster, share):
            note(f"the cluster's {total} are in use; the run starts when {each} can be had")
        return count
    if cluster.own:
        advice = "Use --device cpu"
        if share.resource == "CPU":
            advice = "Choose smaller --threads" if room == 0 else "Choose fewer --workers"
        elif room > 0:
            advice = "Choose fewer --workers"
        raise UsageError(f"{asked} cannot run: this machine has {total}. {advice}.")
    rest = "the run starts" if room == 0 else f"{room} can start, the others"
    note(
        f"{asked} requested, but the cluster's {counted(len(machines), 'machine')} "
        f"{'has' if len(machines) == 1 else 'have'} {total}; {rest} when there are more (Ctrl-C ends the command)"
    )
    return count


def _in_use(cluster: Cluster, share: Share) -> bool:
    """Return whether there is no room for an actor at present."""
    for _ in range(_QUESTIONS):
        if cluster.ray.available_resources().get(share.resource, 0) >= share.amount:
            return False
        time.sleep(_PAUSE)
    return True
