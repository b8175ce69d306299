"""What a disk does to a durable stream: writes that are cut off anywhere, no room, no right to write."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import closing, suppress

import numpy as np
import pytest

from runtime.stream import Stream
from stunet_deploy.errors import ConfigError


@pytest.fixture
def stops(tmp_path, monkeypatch):
    """Return a function that lists copies of a folder, as it was around every call to the system that changes one."""
    copies = []
    watched = []

    def around(call):
        def stop(*arguments, **options):
            copy()
            result = call(*arguments, **options)
            copy()
            return result

        return stop

    def copy():
        if watched:
            folder = watched.pop()  # what follows calls the system as well
            copies.append((tmp_path / f"stop{len(copies)}", pushes[0]))
            shutil.copytree(folder, copies[-1][0])
            watched.append(folder)

    pushes = [0]
    for name in ("open", "write", "fsync", "replace", "rename", "unlink"):
        monkeypatch.setattr(os, name, around(getattr(os, name)))

    def watch(folder, count):
        watched[:] = [] if folder is None else [folder]
        pushes[0] = count
        return copies

    return watch


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_a_death_between_any_two_calls_to_the_system_loses_nothing(
    example, tmp_path, stops, mode, open_stream, push, bits, options
):
    folder = tmp_path / "original"
    whole = Stream.open(example.bundle, mode=mode, options=options)
    expected = [bits(push(whole, step)) for step in range(7)]
    durable = open_stream(example.bundle, folder, mode=mode, every=2)
    for step in range(5):
        stops(folder, step)
        push(durable, step)
    copies = list(stops(None, 0))
    durable.close()
    assert len(copies) > 40
    answered_or_not = set()
    for copy, pushes in copies:
        with closing(open_stream(example.bundle, copy, mode=mode, every=50)) as restored:
            assert not restored.recovery.lossy
            known = restored.stream.counters.pushes
            answered_or_not.add(known - pushes)
            if known:
                assert bits(restored.stream.last) == expected[known - 1]
            # The sender repeats what was not answered, and goes on.
            assert [bits(push(restored, step)) for step in range(pushes, 7)] == expected[pushes:]
            assert restored.stream.counters.pushes == 7
        shutil.rmtree(copy)
    assert answered_or_not == {0, 1}


FULL_DISK = textwrap.dedent("""
    import resource, sys
    from runtime.durable.stream import DurableStream
    from runtime.stream import Stream
    import numpy as np

    def push(stream, step):
        values = np.random.default_rng([17, step]).uniform(0, 0.9, (5, 2))
        return stream.push(values, 1_330_588_800 + 300 * step)

    def limit(size):
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    bundle, folder = sys.argv[1:]
    whole = Stream.open(bundle)
    durable = DurableStream(Stream.open(bundle), folder, every=4)
    for step in range(40):
        if step == 10:
            limit(700)  # bytes of any one file: room for a few more records, and for no snapshot
        if step == 30:
            limit(None)
        found, expected = push(durable, step), push(whole, step)
        if found.values.tobytes() != expected.values.tobytes():
            sys.exit(f"another forecast at {step}")
        said = any(reason.startswith("not durable") for reason in found.reasons)
        print(step, int(said), durable.stream.counters.unkept, durable.stream.counters.failed_writes)
    print(durable.trouble)
    durable.close()
    again = DurableStream(Stream.open(bundle), folder)
    if push(again, 40).values.tobytes() != push(whole, 40).values.tobytes():
        sys.exit("another forecast after a restart")
""")


def test_a_full_disk_stops_no_forecast_and_is_over_when_there_is_room(example, tmp_path):
    pytest.importorskip("resource", reason="no limit on the size of files on this system")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(example.bundle.path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    table = np.array([line.split() for line in lines], int)
    said, unkept, failed = table[:, 1], table[:, 2], table[:, 3]
    assert not said[:10].any()
    assert said[16:30].all()
    assert not said[30:].any()
    assert 10 <= unkept[-1] <= 20
    assert unkept[29] == unkept[-1] < failed[-1]
    assert last == "None"


needs_mount = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux can mount a small file system"
)


@pytest.fixture
def small_disk(tmp_path):
    """Return the mount point of a file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@needs_mount
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_is_full_or_read_only_is_used_again_when_it_can_be(
    example, small_disk, fault, open_stream, push, bits, options
):
    whole = Stream.open(example.bundle, options=options)
    folder = small_disk / "stream"
    durable = open_stream(example.bundle, folder)
    filler = small_disk / "filler"
    for step in range(30):
        if step == 8 and fault == "full":
            with filler.open("wb", buffering=0) as handle, suppress(OSError):
                while True:
                    handle.write(bytes(512))
        elif step == 8:  # an open file would keep the system from it
            durable.close()
            subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
            durable = open_stream(example.bundle, folder)
        elif step == 20 and fault == "full":
            filler.unlink()
        elif step == 20:
            subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        found, expected = push(durable, step), push(whole, step)
        assert found.values.tobytes() == expected.values.tobytes()
        said = [reason for reason in found.reasons if reason.startswith("not durable")]
        if 14 <= step < 20:
            assert said[0].endswith("(No space left on device)" if fault == "full" else "(Read-only file system)")
        elif step < 8 or step >= 20:
            assert said == []
    assert durable.trouble is None
    assert durable.stream.counters.failed_writes > 0
    # A journal's last page may still have had room.
    assert durable.stream.counters.unkept == (12 if fault == "read-only" else 0)
    durable.close()
    with closing(open_stream(example.bundle, folder)) as restored:
        assert bits(push(restored, 30)) == bits(push(whole, 30))


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(example, tmp_path, open_stream, monkeypatch):
    def fail(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(ConfigError, match="cannot be listed"):
        open_stream(example.bundle, tmp_path / "state")
    monkeypatch.undo()
    open_stream(example.bundle, tmp_path / "state").close()  # nobody holds the folder
