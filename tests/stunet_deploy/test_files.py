"""A file is read where it is one, and replaced whole, or stays as it was and nothing is left beside it."""

from __future__ import annotations

import io
import os

import pytest

from stunet_deploy.errors import DataError, StunetError
from stunet_deploy.files import lines_of, open_file, read_file, replacing
from stunet_deploy.limits import LONGEST_LINE


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "model.pt"
    with replacing(target) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert listing(tmp_path) == ["model.pt"]


def test_an_old_file_stays_readable_until_it_is_replaced(tmp_path):
    target = tmp_path / "model.pt"
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        with replacing(str(target)) as temporary:
            temporary.write_bytes(b"new")
            assert target.read_bytes() == b"old"
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new"


def fail(target, error, started):
    with replacing(target) as temporary:
        if started:
            temporary.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), StunetError("a", "b", "c")])
@pytest.mark.parametrize("started", [True, False])
def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path, error, started):
    target = tmp_path / "model.pt"
    target.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        fail(target, error, started)
    assert caught.value is error
    assert target.read_bytes() == b"old"
    assert listing(tmp_path) == ["model.pt"]


def write(target):
    with replacing(target) as temporary:
        temporary.write_bytes(b"new")


def test_a_missing_folder_is_named(tmp_path):
    target = tmp_path / "nowhere" / "model.pt"
    with pytest.raises(StunetError, match=r"nowhere/model\.pt cannot be written \(No such file") as caught:
        write(target)
    assert "another place" in caught.value.action


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "results").write_bytes(b"text")
    with pytest.raises(StunetError, match=r"results/model\.pt cannot be written \(Not a directory"):
        write(tmp_path / "results" / "model.pt")
    assert (tmp_path / "results").read_bytes() == b"text"


def test_a_name_too_long_for_the_file_system_is_an_error_of_the_user(tmp_path):
    with pytest.raises(StunetError, match="cannot be written"):
        write(tmp_path / ("m" * 300))


def test_a_folder_in_place_of_the_file_is_not_replaced(tmp_path):
    target = tmp_path / "model.pt"
    target.mkdir()
    with pytest.raises(StunetError, match="cannot be written"):
        write(target)
    assert target.is_dir()
    assert listing(tmp_path) == ["model.pt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_folder_is_an_error_of_the_user(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StunetError, match="Permission denied"):
            write(tmp_path / "model.pt")
    finally:
        tmp_path.chmod(0o700)
    assert listing(tmp_path) == []


def test_a_file_is_read_up_to_a_size(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than"):
        read_file(path, 4)


@pytest.mark.skipif(os.name != "posix", reason="no pipes among files")
def test_a_pipe_or_a_device_is_no_file_to_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="a pipe or a device"):
            open_file(path)


def test_lines_are_yielded_as_they_are_unless_one_is_endless():
    text = "a\r\n\n" + "b" * 100 + "\nc"
    assert "".join(lines_of(io.StringIO(text, newline=""), "a.csv")) == text
    with pytest.raises(DataError, match=r"a\.csv with a line of 16,777,216 characters"):
        list(lines_of(io.StringIO("b" * LONGEST_LINE), "a.csv"))
