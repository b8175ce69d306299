"""The window over the last intervals: a sequence is its steps, and both are the readings themselves, newest first."""

from __future__ import annotations

import pytest
import torch

from stunet_deploy.models.lags import LAGS, Lags


@pytest.mark.parametrize("time", [1, 2, 7])
@pytest.mark.parametrize(("length", "channels"), [(1, 2), (2, 1), (4, 3), (9, 2)])
def test_windows_are_the_last_readings_newest_first(length: int, channels: int, time: int) -> None:
    lags, generator = Lags(length, channels), torch.Generator().manual_seed(3)
    history = torch.randn(2, length - 1 + time, 5, channels, generator=generator)
    before, now = history[:, : length - 1], history[:, length - 1 :]
    earlier = before.flip(1).movedim(1, 2).flatten(2) if length > 1 else None
    (entry,) = lags.states(5) or (None,)

    windows, final = lags.sequence(now, earlier)
    issued = torch.tensor([0, time - 1])
    some, of_some = lags.sequence(now, earlier, issued)

    assert torch.equal(some, windows[:, issued])
    assert all(torch.equal(of_some[name], final[name]) for name in final)
    for t in range(time):
        newest_first = history[:, t : t + length].flip(1).movedim(1, 2).flatten(2)
        assert torch.equal(windows[:, t], newest_first)
        window, written = lags.step(now[:, t], earlier)
        assert torch.equal(window, newest_first)
        earlier = written.get(LAGS)
        if entry is not None:
            assert earlier is not None
            assert earlier.shape == (2, *entry.shape[1:])
    assert final.keys() == ({LAGS} if length > 1 else set())
    assert entry is None or torch.equal(final[LAGS], earlier)
