"""A whole manifest of a small network, with an entry of every kind."""

from __future__ import annotations

from stunet_deploy.contract import StateSpec, StepContract, TensorSpec
from stunet_deploy.manifest import Manifest
from stunet_deploy.site import Site

_CELL = ("batch", "node", "feature")
_SCORE = {"target": "speed", "horizon_minutes": 5.0, "mae": 1.5, "wape": None, "count": 3}
_PARITY = {"backend": "onnxruntime", "measured_by": "emulated", "max_abs_error": 1e-4, "mean_abs_error": 1e-5}
WHOLE = Manifest(
    contract=StepContract(
        (
            TensorSpec("values", _CELL, (None, 2, 2)),
            TensorSpec("observed", _CELL, (None, 2, 2)),
            TensorSpec("time_of_week", ("batch", "second"), (None, 1)),
        ),
        (TensorSpec("forecast", ("batch", "horizon", "node", "target"), (None, 3, 2, 1)),),
        (StateSpec("hidden", _CELL, (None, 2, 4), delay=2, taps=(2, 1)), StateSpec("kept", _CELL, (None, 2, 1))),
    ),
    model="stunet",
    config={"hidden": 4, "scales": [[1, 2]]},
    site=Site(
        ("a", "b"),
        ("speed", "flow"),
        ("mph", ""),
        300,
        timezone="Europe/Berlin",
        latitude=(34.0, 34.1),
        longitude=(-118.0, -118.1),
        no_data=((2046.0, -1.0), ()),
    ),
    targets=("speed",),
    limits=((0.0, 90.0), (-1.0, 1.0)),
    mean=(50.0, 0.0),
    std=(9.0, 1.0),
    horizon=3,
    window=12,
    tolerance=(1e-3,),
    training={"data": "a wave", "config": {"epochs": 2}, "validation_mae": 2.5},
    parity={"fp32": _PARITY, "fp16": _PARITY | {"tolerance": [3e-4]}},
    accuracy={"fp32": {"results": [_SCORE]}, "fp16": {"results": [_SCORE], "loss": -0.01, "forced": True}},
    versions={"python": "3.11.7"},
    files={"step.onnx": "0" * 64, "step.fp16.onnx": "1" * 64, "golden.npz": "a" * 64},
    bundle_id="f" * 64,
)
