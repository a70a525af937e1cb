"""Files that are complete or absent, and properties of the replaced file that are kept."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from varestorer_core import atomic
from varestorer_core.atomic import atomic_file, remove_abandoned, write_atomically
from varestorer_core.errors import ImageError, VARestorerError

KILLED = """
import os, sys, signal
from varestorer_core.atomic import atomic_file
with atomic_file(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole(tmp_path):
    write_atomically(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_a_failure_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail():
        with atomic_file(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX ones")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_of_a_replaced_file_are_kept(tmp_path, mode):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX ones")
def test_a_write_protected_file_is_not_replaced(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(ImageError, match="write-protected"):
        write_atomically(path, b"new", ImageError)
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VARestorerError, match="not a regular file"):
        write_atomically(tmp_path / "pipe", b"new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "link.bin").symlink_to(tmp_path / "real" / "a.bin")
    except OSError:
        pytest.skip("this system does not let us make links")
    write_atomically(tmp_path / "link.bin", b"new")
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real" / "a.bin").read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_what_a_killed_process_left_goes_with_the_next_run(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    write_atomically(path, b"new")
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="processes are asked about by signal")
def test_what_a_living_process_writes_stays(tmp_path):
    other = tmp_path / f".a.bin.{os.getppid()}-00112233.tmp"
    stranger = tmp_path / f".b.bin.{2**22 + 7}-00112233.tmp"
    gone = tmp_path / f".a.bin.{2**22 + 7}-00112233.tmp"  # above the largest process number
    for path in (other, stranger, gone):
        path.write_bytes(b"half")
    remove_abandoned(tmp_path / "a.bin")
    assert other.exists()
    assert stranger.exists()
    assert not gone.exists()
    day_ago = time.time() - 2 * 24 * 3600
    os.utime(other, (day_ago, day_ago))
    remove_abandoned(tmp_path / "a.bin")
    assert not other.exists()


def test_what_an_earlier_run_with_the_same_process_id_left_is_removed(tmp_path):
    """In a container, every run may have the same id."""
    earlier, current = (tmp_path / f".a.bin.{os.getpid()}-{mark * 8}.tmp" for mark in "ab")
    for path in (earlier, current):
        path.write_bytes(b"half")
    os.utime(earlier, (atomic._STARTED - 1, atomic._STARTED - 1))
    remove_abandoned(tmp_path / "a.bin")
    assert names(tmp_path) == [current.name]


def test_a_folder_of_many_files_is_listed_once(tmp_path, monkeypatch):
    listed, usual = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: listed.append(folder) or usual(folder))
    monkeypatch.chdir(tmp_path)
    for name in ("a.bin", "b.bin", "a.bin"):
        write_atomically(name, b"new")
        write_atomically(tmp_path / name, b"new")
    assert listed == [tmp_path]


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("a" * 251 + ".bin")
    write_atomically(path, b"new")
    assert names(tmp_path) == [path.name]
    with pytest.raises(VARestorerError, match=r"File name too long|not written"):
        write_atomically(tmp_path / ("a" * 300), b"new")
