"""The comparison with other models runs whole, in small; what it times is left to the machine it is for."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.diffusion import DCRNN, DiffusionConvolution, GraphWaveNet, parameters, random_walks
from benchmarks.speed.peer_report import MARKS, RUNS_ON, headline, write_headline
from tests.paths import ROOT


def test_the_comparison_with_other_models_writes_page_picture_and_headline(
    run_benchmark: Callable[..., tuple[Any, str]], tmp_path: Path
) -> None:
    found, page = run_benchmark("speed.peers")

    assert set(found["calls"]) == {"step", "window", "eager window", "Graph WaveNet", "DCRNN"}
    assert set(found["ratios"]) == set(found["calls"]) - {"step"}
    assert all(len(values) == found["calls"][name]["count"] == 3 for name, values in found["samples_us"].items())
    assert found["torch_compile"] == "left out"
    assert all(f"| {words} |" in page for name, words in RUNS_ON.items() if name in found["calls"])
    drawn = {element.text for element in ElementTree.parse(tmp_path / "peers.svg").iter()}
    assert {f"{call['median_us'] / 1000:.2f} ms" for call in found["calls"].values()} <= drawn
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n", encoding="utf-8")
    write_headline(readme, headline(found))
    assert readme.read_text(encoding="utf-8") == f"before\n{MARKS[0]}\n{headline(found)}\n{MARKS[1]}\nafter\n"


def test_the_readme_says_what_the_comparison_found() -> None:
    results = ROOT / "benchmarks" / "results" / "peers.json"
    _, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(MARKS[0])
    said = rest.partition(MARKS[1])[0].strip()

    expected = headline(json.loads(results.read_text(encoding="utf-8"))) if results.is_file() else ""
    assert said == expected


def test_the_other_models_have_their_published_size() -> None:
    walks = random_walks(np.eye(207))

    assert parameters(DCRNN(walks)) == 372_353
    # The authors' program also makes a convolution per layer that it does not use when the graph is: 8 of 1,056.
    assert parameters(GraphWaveNet(walks)) == 309_400 - 8 * 1_056


def test_the_other_models_forecast_every_sensor_from_the_whole_window() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    adjacency = rng.random((7, 7)) * (rng.random((7, 7)) < 0.5)
    walks = random_walks(adjacency)
    window = torch.randn(2, 12, 7, 2, requires_grad=True)

    for model in (DCRNN(walks).eval(), GraphWaveNet(walks).eval()):
        forecast = model(window)
        assert forecast.shape == (2, 12, 7, 1)
        (gradient,) = torch.autograd.grad(forecast[0].sum(), window)
        assert (gradient[0].abs().amax(dim=(1, 2)) > 0).all()
        assert gradient[1].abs().max() == 0


def test_a_diffusion_follows_both_walks_twice() -> None:
    torch.manual_seed(0)
    walks, x = random_walks(np.random.default_rng(0).random((5, 5))), torch.randn(1, 5, 3)
    layer = DiffusionConvolution(3, 4, order=2)

    forward, backward = walks
    identity = torch.eye(5)
    terms = [identity, forward, 2 * forward @ forward - identity, backward, 2 * backward @ backward - identity]
    expected = layer.linear(torch.cat([term @ x for term in terms], dim=-1))
    torch.testing.assert_close(layer(walks, x), expected)
    torch.testing.assert_close(walks.sum(dim=2), torch.ones(2, 5))
