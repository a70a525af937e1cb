"""One process per run folder, and disk space that is allocated before a memory-mapped file is written."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from varestorer_core.atomic import reserve
from varestorer_core.distill.data import procedural_pictures
from varestorer_core.distill.run import run_stage
from varestorer_core.distill.run.lock import locked
from varestorer_core.errors import SettingError, VARestorerError

HOLDER = """
import sys
from pathlib import Path
from varestorer_core.distill.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, micro_run):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SettingError, match="in use by another process"):
            run_stage("tokenizer", micro_run(tmp_path))
        assert not (tmp_path / "config.json").exists()
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path):  # a killed process holds no lock
        pass


def test_a_full_disk_is_seen_before_pictures_are_drawn(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(VARestorerError, match="the disk is full"):
        procedural_pictures(tmp_path / "pictures.npy", 3, size=16)
    assert list(tmp_path.iterdir()) == []


def test_the_blocks_of_a_sparse_file_are_there_afterwards(tmp_path):
    path = tmp_path / "a.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(1 << 20,))
    del array
    reserve(path)
    if hasattr(os, "posix_fallocate"):
        assert path.stat().st_blocks * 512 >= 1 << 20
