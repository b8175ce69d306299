"""A new bundle is tried in a process of its own: whatever it does there, the service says so and goes on."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.service.config import read_config
from runtime.service.trial import CutOffError, Limits, try_out
from stunet_deploy.errors import BundleError, StunetError
from stunet_deploy.precisions import STEP
from tests.waiting import wait_for

linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")


@pytest.fixture
def stream(write_config):
    """The config of a stream."""
    return read_config(write_config('kind = "stdin"', ['kind = "stdout"'])).stream[0]


def children():
    """Return the processes that this one has started and that have not ended."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


@pytest.mark.parametrize("verified", [True, False])
def test_a_good_bundle_passes(stream, example, verified):
    manifest = example.bundle.manifest if verified else None
    try_out(stream, threading.Event(), trust=None, manifest=manifest, limits=Limits())


def test_what_is_wrong_is_said_in_the_clauses_of_its_error(stream, build_example):
    other = build_example((1,)).bundle.path
    (other / STEP).unlink()
    with pytest.raises(StunetError, match=f"without {STEP}") as caught:
        try_out(replace(stream, bundle=other), threading.Event(), trust=None, limits=Limits())
    assert caught.value.action == "copy the bundle again"


def test_a_bundle_that_is_another_by_now_is_refused(stream, build_example):
    with pytest.raises(BundleError, match="changes while it is read"):
        try_out(stream, threading.Event(), trust=None, manifest=build_example((1,)).bundle.manifest, limits=Limits())


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (Limits(seconds=0), "takes longer than 0 s"),
        pytest.param(Limits(bytes=1 << 20), "takes more than 1 MB of memory", marks=linux),
    ],
)
def test_what_takes_too_much_is_given_up(stream, limits, named):
    with pytest.raises(BundleError, match=named):
        try_out(stream, threading.Event(), trust=None, limits=limits)


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_crash_of_the_trial_is_an_error_like_others(stream, number):
    before = children()

    def crash():
        wait_for(lambda: set(children()) - set(before))
        for child in set(children()) - set(before):
            os.kill(child, number)

    killer = threading.Thread(target=crash)
    killer.start()
    with pytest.raises(BundleError, match=f"ends with exit code {-number} and without an answer"):
        try_out(stream, threading.Event(), trust=None, limits=Limits())
    killer.join()


def test_a_stop_cuts_it_off(stream):
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(CutOffError):
        try_out(stream, stopped, trust=None, limits=Limits())
