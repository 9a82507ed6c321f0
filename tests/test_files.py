"""Files that are there whole or not at all, and locks that die with their holder."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from automl_cli.errors import Locked, UsageError
from automl_cli.files import check_writable, locked, write_whole

HOLD = """
import sys, time
from pathlib import Path
from automl_cli.files import locked
with locked(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")
    with write_whole(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [ValueError("in the middle"), KeyboardInterrupt()])
def test_an_error_in_the_middle_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), write_whole(path) as file:
        file.write(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["model"]


def test_others_may_read_the_file_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with write_whole(tmp_path / "model") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o640


def test_a_file_that_is_replaced_keeps_its_mode_and_group(tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.write_bytes(b"old")
    place.chmod(0o664)
    groups = [group for group in os.getgroups() if group != place.stat().st_gid]
    group = groups[0] if groups else 1000 if os.geteuid() == 0 else place.stat().st_gid
    os.chown(place, -1, group)
    before = os.umask(0o077)
    try:
        with write_whole(place) as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert place.read_bytes() == b"new"
    assert (stat.S_IMODE(place.stat().st_mode), place.stat().st_gid) == (0o664, group)


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("m" * 255)
    with write_whole(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


def test_a_link_is_a_place_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with write_whole(tmp_path / "link" / "model") as file:
        file.write(b"x")
    assert (tmp_path / "real" / "model").read_bytes() == b"x"


@pytest.mark.parametrize(("place", "says"), [("nowhere/model", "does not exist"), (".", "folder")])
def test_a_place_that_cannot_be_is_refused_before_the_work(tmp_path: Path, place: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_writable(tmp_path / place)
    assert names(tmp_path) == []


def test_checking_a_place_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "model")
    assert names(tmp_path) == []


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "lock"
    with locked(lock, "the model"):
        with pytest.raises(Locked, match="the model is in use"), locked(lock, "the model"):
            pass
        with pytest.raises(Locked), locked(lock, "the model", wait_seconds=0.25):
            pass
    with locked(lock, "the model"):
        pass


def test_a_killed_holder_gives_its_lock_back(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Locked), locked(lock, "it"):
            pass
        holder.kill()
        holder.wait()
    with locked(lock, "it", wait_seconds=5.0):
        pass
