"""The streamed step against recomputed windows runs whole, in small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_every_way_is_timed_in_the_same_rounds(run_benchmark: Callable[..., tuple[Any, str]]) -> None:
    result, page = run_benchmark("speed.bench_step")
    (network,) = result["networks"].values()
    assert set(network["calls"]) == {"push", "push x2", "push cold", "eager", "stepwise", "window"}
    assert all(call["count"] == 2 for call in network["calls"].values())
    assert network["ratios"].keys() == network["calls"].keys() - {"push"}
    assert network["max_abs_error"] < 1e-3
    assert not network["cold_start"]["torch_imported"]
    assert "| stepwise | 1 |" in page
