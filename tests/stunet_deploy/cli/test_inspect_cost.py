"""``stunet inspect --cost`` through the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stunet_deploy.cli import main

from .conftest import Place

Answer = Callable[..., Any]


def test_the_cost_of_a_bundle_is_counted_and_measured(
    place: Place, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    cost = answer("inspect", place.bundle, "--cost")

    assert cost["graph"] == "step.onnx"
    assert cost["operations"] == sum(node["operations"] for node in cost["nodes"]) > 2 * cost["multiplications"] > 0
    assert cost["floor_us"] == pytest.approx(sum(node["floor_us"] for node in cost["nodes"]))
    assert cost["share_of_floor"] == pytest.approx(cost["floor_us"] / cost["step"]["min_us"])

    assert main(["inspect", str(place.bundle), "--cost"]) == 0
    text = capsys.readouterr().out
    assert "Gflop/s in a product of" in text
    assert "MatMul" in text


def test_only_a_bundle_has_a_cost(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(place.model), "--cost"]) == 2
    assert "a bundle" in capsys.readouterr().err
