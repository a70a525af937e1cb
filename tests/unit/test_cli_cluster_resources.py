"""Actors that a cluster has no room for: an error on a cluster that cannot grow, else a note and waiting."""

import importlib
import socket
import subprocess
import sys
import threading

import pytest
from restore_command import picture

from varestorer_core.cli import UsageError
from varestorer_core.cli.cluster_resources import (
    Cluster,
    Share,
    actor_count,
    check_address,
    cluster_device,
)


def has_ray():
    try:
        importlib.import_module("ray.data")
    except ImportError:
        return False
    return True


needs_ray = pytest.mark.skipif(not has_ray(), reason="needs Ray: pip install -e '.[cluster]'")


class FakeRay:
    """Answers like Ray for machines with these resources."""

    def __init__(self, *machines, used=0):
        self.machines, self.used = machines, used

    def nodes(self):
        gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
        return [gone, *({"Alive": True, "Resources": each} for each in self.machines)]

    def cluster_resources(self):
        names = {name for each in self.machines for name in each}
        return {name: sum(each.get(name, 0) for each in self.machines) for name in names}

    def available_resources(self):
        return {name: number - self.used for name, number in self.cluster_resources().items()}


TWO = FakeRay({"CPU": 2.0}, {"CPU": 7.0, "GPU": 2.0})


@pytest.mark.parametrize(
    ("workers", "share", "expected"),
    [
        (None, Share("CPU", 1), 9),
        (None, Share("CPU", 2), 4),  # an actor needs its CPUs on one machine
        (None, Share("CPU", 3), 2),
        (None, Share("GPU", 1), 2),
        (1, Share("GPU", 1), 1),
    ],
)
def test_number_of_actors(capsys, workers, share, expected):
    assert actor_count(Cluster(TWO, own=False), workers, share) == expected
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("workers", "share", "said"),
    [
        (
            None,
            Share("CPU", 8),
            "1 actor with 8 CPUs cannot run: this machine has 2 CPUs. Choose smaller",
        ),
        (3, Share("CPU", 1), "3 actors with 1 CPU each cannot run: this machine has 2 CPUs."),
        (None, Share("GPU", 1), "this machine has 0 GPUs. Use --device cpu."),
    ],
)
def test_a_cluster_that_cannot_grow_ends_the_command(workers, share, said):
    with pytest.raises(UsageError, match=said):
        actor_count(Cluster(FakeRay({"CPU": 2.0}), own=True), workers, share)


def test_another_cluster_may_grow(capsys):
    cluster = Cluster(TWO, own=False)
    assert actor_count(cluster, None, Share("CPU", 8)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 actor with 8 CPUs requested, but the cluster's 2 machines have 9 CPUs" in line
    assert actor_count(cluster, 3, Share("GPU", 1)) == 3
    assert "2 can start, the others when there are more" in capsys.readouterr().err


def test_a_cluster_in_use_is_named(monkeypatch, capsys):
    monkeypatch.setattr("varestorer_core.cli.cluster_resources._PAUSE", 0)
    cluster = Cluster(FakeRay({"CPU": 2.0}, used=2), own=False)
    assert actor_count(cluster, None, Share("CPU", 1)) == 2
    assert "the cluster's 2 CPUs are in use" in capsys.readouterr().err


def test_devices_of_the_actors():
    assert cluster_device(Cluster(TWO, own=False), "auto") == "cuda"
    assert cluster_device(Cluster(TWO, own=False), "cpu") == "cpu"
    assert cluster_device(Cluster(FakeRay({"CPU": 2.0}), own=True), "auto") == "cpu"


def test_addresses_without_a_cluster():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_address(address)
        check_address(f"ray://{address}")
    for closed in (address, f"ray://{address}", "127.0.0.1:99999", "host.invalid:6379"):
        with pytest.raises(UsageError, match="no Ray cluster answers there"):
            check_address(closed)
    for wrong in ("banana", "host:", ":6379", "6379"):
        with pytest.raises(UsageError, match="expected auto, HOST:PORT or ray://HOST:PORT"):
            check_address(wrong)
    check_address("auto")


@needs_ray
@pytest.mark.ray
@pytest.mark.slow
def test_a_run_waits_for_a_machine_that_joins_a_real_ray(tmp_path):
    cluster = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1}
    )
    command = [sys.executable, "-m", "varestorer_core.cli", "degrade", picture(tmp_path / "a.png")]
    command += ["-o", str(tmp_path / "out"), "--preset", "mild", "--threads", "2", "--cluster"]
    child = subprocess.Popen(
        [*command, cluster.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    ends = threading.Timer(120, child.kill)
    ends.start()
    try:
        assert "1 actor with 2 CPUs requested" in child.stderr.readline()
        cluster.add_node(num_cpus=2)
        printed, said = child.communicate()
        assert (child.returncode, said) == (0, "")
        assert "1 degraded by 1 actor" in printed
    finally:
        ends.cancel()
        child.kill()
        cluster.shutdown()
