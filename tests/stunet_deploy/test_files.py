"""A file is replaced whole, or stays as it was and nothing is left beside it."""

from __future__ import annotations

import os

import pytest

from stunet_deploy.errors import StunetError
from stunet_deploy.files import replacing


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
    assert "--out" in caught.value.action


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
