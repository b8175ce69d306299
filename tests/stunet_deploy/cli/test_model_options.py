"""The parts of the paper's model go the whole way: trained, scored, exported, verified and streamed by command.

Every part is in one of these networks. That each part's step graph is its step, and its step its sequence, is held part
by part in ``tests/export/test_step_graph.py`` and ``tests/stunet_deploy/models/stunet``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OPTIONS = {
    "two scales, mean pooling by PGA' and weighted deconvolution": (
        'scales = [[1, 2], [1, 4]]\npooling = "mean"\npartition = "pga"\nunpooling = "weighted_deconv"\nfill = "last"',
        'regime = "window"\nloss = "paper"',
    ),
    "recurrent decoder, ordered deconvolution, profile, filled by forecasts": (
        'decoder = "recurrent"\nscales = [[1, 3]]\nunpooling = "ordered_deconv"\nprofile = true\nfill = "forecast"',
        "loss_every = 3",
    ),
    "recurrent decoder without tricks": (
        'decoder = "recurrent"\nscales = [[1, 2]]\nlayer_norm = false\nresidual = false\nfill = "mean"',
        'teacher_forcing = "always"\nregime = "window"\nloss = "paper"',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "training"), OPTIONS.values(), ids=OPTIONS)
def test_the_whole_way(
    model: str,
    training: str,
    place: Any,
    answer: Callable[..., Any],
    tmp_path: Path,
    run_stunet: Callable[[list[str]], str],
) -> None:
    config, checkpoint, bundle = tmp_path / "c.toml", tmp_path / "model.pt", tmp_path / "model.bundle"
    text = place.config.read_text(encoding="utf-8").replace("epochs = 2", "epochs = 1\n" + training)
    text = text.replace("hidden = 4", "hidden = 8")  # layer norm over four channels magnifies round-off
    text = text.replace("horizon = 6", "horizon = 2")
    config.write_text(text.replace("[model]", "[model]\n" + model), encoding="utf-8")
    data = ("--data", place.speeds)

    run_stunet(place.train_arguments(checkpoint, config))
    scored = json.loads(run_stunet(["evaluate", str(checkpoint), *map(str, data), "--json"]))["results"]
    run_stunet(["export", str(checkpoint), "--out", str(bundle)])
    verified = answer("verify", bundle)
    from_bundle = answer("evaluate", bundle, *data)["results"]
    runs = [answer("run", bundle, "--replay", place.speeds, "--mode", mode) for mode in ("carry", "window")]

    assert verified["passed"]
    # Carried on slots and staggered rows as in one go over the sequence: states of every age, and the fill's.
    assert len(scored) == len(from_bundle)
    for ours, theirs in zip(from_bundle, scored, strict=True):
        assert ours["mae"] == pytest.approx(theirs["mae"], rel=1e-4), (ours["model"], ours["protocol"])
    errors = {result["protocol"]: result["mae"] for result in scored if result["model"] == "stunet"}
    assert errors["window"] != errors["stream"]
    assert [run["intervals"] for run in runs] == [600, 600]
