"""The benchmark of training runs whole, in small; the ways that it compares have the same loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.weeks import small_recording
from benchmarks.speed.literal_graph import LiteralCell
from benchmarks.speed.training import Case, LiteralSTUNet, batches, dcrnn, trainers
from stunet_deploy.models.stunet.graph_gru import GCGRUCell


def test_the_benchmark_of_training_writes_its_page(run_benchmark: Callable[..., tuple[Any, str]]) -> None:
    found, page = run_benchmark("speed.training")

    window, stream = found["cases"]["window"], found["cases"]["stream"]
    assert set(window["calls"]) == {"ours", "literal", "preset", "bf16", "DCRNN"}
    assert set(stream["calls"]) == {"ours", "literal", "preset", "bf16"}
    assert (window["intervals"], stream["intervals"]) == (3 * 12, 48)
    for case in (window, stream):
        assert all(memory["peak_mb"] >= memory["before_mb"] > 0 for memory in case["memory"].values())
        assert set(case["ratios"]) == set(case["calls"]) - {"ours"}
        assert set(case["of_preset"]) == set(case["calls"])
        for one in case["calls"].values():
            assert f"| {case['intervals'] / one['median_us'] * 1e6:,.0f} |" in page


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("case", [Case("window", 8, 5), Case("stream", 8, 1)])
def test_the_literal_loop_has_the_same_loss_and_the_same_gradient(tmp_path: Path, case: Case) -> None:
    ours, literal = trainers(small_recording(tmp_path / "small.npz"), case).values()
    draw = ours.objective.draw(next(batches(ours)))
    labels = ours.objective.labels(draw)

    losses = [trainer.objective.part_loss(draw, labels) for trainer in (ours, literal)]
    for loss in losses:
        loss.backward()

    assert isinstance(literal.model, LiteralSTUNet)
    assert all(isinstance(cell, LiteralCell) for cell in literal.model.modules() if isinstance(cell, GCGRUCell))
    assert not any(isinstance(cell, LiteralCell) for cell in ours.model.modules())
    assert losses[0] > 0.1
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    for (name, mine), theirs in zip(ours.model.named_parameters(), literal.model.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().max() > 0 or "static" in name, name  # of its sensors the model knows nothing
        torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("shapes_unchecked")
def test_both_draw_the_same_chunks(tmp_path: Path) -> None:
    ours, literal = trainers(small_recording(tmp_path / "small.npz"), Case("window", 4, 3)).values()
    left, right = batches(ours), batches(literal)

    for _ in range(200):
        assert torch.equal(next(left), next(right))


@pytest.mark.usefixtures("shapes_unchecked")
def test_dcrnn_learns_as_it_is(tmp_path: Path) -> None:
    update = dcrnn(small_recording(tmp_path / "small.npz"), 8)

    losses = [update() for _ in range(30)]

    assert sum(losses[-5:]) / 5 < 0.8 * losses[0]
