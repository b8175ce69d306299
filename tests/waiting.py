"""Waiting for what must come: for as long as a busy machine may need, since only a test that fails waits in vain."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

LONG_S = 300.0


def wait_for(reached: Callable[[], object], say: Callable[[], object] = lambda: "") -> None:
    """Wait until something is so, or fail with what ``say`` returns."""
    end = time.monotonic() + LONG_S
    while not reached():
        if time.monotonic() > end:
            pytest.fail(f"in vain: {say()}")
        time.sleep(0.01)
