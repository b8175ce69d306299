"""Every setting is checked by name, and a config file reads as it was written."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, is_dataclass
from typing import get_type_hints

import pytest

from stunet_deploy.config import (
    RUN_CONFIGS,
    VARIANTS,
    RunConfig,
    Signal,
    SRNNConfig,
    SRNNRunConfig,
    STUNetConfig,
    TrainingConfig,
)
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import ConfigError

SIGNAL = {
    "features": ["speed", "flow"],
    "targets": ["speed"],
    "mean": [57, 120.5],
    "std": [12.5, 40],
    "low": [0, 0],
    "high": [84.5, 600],
}

OUT_OF_RANGE = {
    STUNetConfig: {
        "scales": [(), ((-1, 2),), ((2, 0),), ((2, 2), (1, 0))],
        "hidden": [-1],
        "chebyshev_order": [0],
        "partition": ["metis"],
        "symmetrise": ["sum"],
        "basis": ["sparse"],
        "pooling": ["sum"],
        "unpooling": ["deconv"],
        "decoder": ["seq2seq"],
        "fill": ["zero"],
        "time_features": ["hour"],
        "lags": [-1],
        "head": [0],
        "harmonics": [0],
        "members": [0],
        "horizon": [0],
        "window": [0],
    },
    TrainingConfig: {
        "regime": ["online"],
        "warm_up": [-1],
        "chunk": [0],
        "batch": [0],
        "accumulate": [0],
        "epochs": [0],
        "updates": [-1],
        "alone": [-1],
        "learning_rate": [0.0, -1e-3, math.nan, math.inf],
        "decay": [0.0, math.nan],
        "decay_every": [0],
        "schedule": ["linear"],
        "weight_decay": [-1e-4, math.nan, math.inf],
        "clip_norm": [0.0, math.inf],
        "loss_every": [0],
        "teacher_forcing": ["sometimes"],
        "sampling_decay": [-1.0, math.inf],
        "loss": ["mse"],
        "dropout": [-0.1, 1.0, math.nan],
        "hide": [-0.1, 1.0],
        "hide_sensors": [-0.1, 1.0, math.nan],
        "time_jitter": [-1.0],
        "average": [-0.1, 1.0],
        "patience": [0],
        "precision": ["fp16"],
        "threads": [-1],
    },
    Signal: {
        "features": [["speed", "speed"]],
        "targets": [[], ["density"], ["speed", "speed"]],
        "mean": [[57.0], [57.0, math.nan]],
        "std": [[12.5, 0.0], [12.5, -1.0], [12.5, math.inf], [12.5] * 3],
        "low": [[90.0, 0.0], [84.5, 0.0], [-math.inf, 0.0]],
        "high": [[84.5], [84.5, math.inf]],
        "target_std": [[0.0], [1.0, 1.0], [math.inf]],
        "target_units": [["mph"]],
    },
    SRNNConfig: {
        "edge_state": ["shared"],
        "combine": ["max", "attention"],
        "edge_features": ["sum", "difference"],
        "cell": ["rnn"],
        "edge_embedding": [(0,), (32, -1)],
        "edge_hidden": [0],
        "node_embedding": [(0,)],
        "node_hidden": [0],
        "head": [(0,)],
        "output": ["softmax"],
        "classes": [{"driver": ("left", "right")}],
        "decoder": ["seq2seq"],
        "fill": ["forecast"],
        "time_features": ["hour"],
        "horizon": [0],
        "window": [0],
    },
    RunConfig: {"protocol": ["c"]},
    SRNNRunConfig: {"protocol": ["c"]},
}
CASES = [
    (kind, name, value) for kind, names in OUT_OF_RANGE.items() for name, values in names.items() for value in values
]


def complete(kind: type, changed: dict[str, object]) -> dict[str, object]:
    return (SIGNAL if kind is Signal else {}) | changed


def test_every_restricted_field_is_among_the_cases():
    free = {"skip", "residual", "layer_norm", "mask_channel", "profile", "damped"}  # any bool will do
    free |= {"static_features", "common", "compress", "sensor_scale", "memory", "profile_ahead", "changes"}
    free |= {"edge_skip", "presence"}
    free |= {"model", "training", "targets"}  # tables of their own, and any names
    for kind, cases in OUT_OF_RANGE.items():
        assert {field.name for field in fields(kind)} - set(cases) <= free


@pytest.mark.parametrize(("kind", "name", "value"), CASES)
def test_a_value_out_of_range_is_refused_by_its_name(kind, name, value):
    with pytest.raises(ConfigError, match=rf"^{name}( \d| [12] 1)? = "):
        from_mapping(kind, complete(kind, {name: value}))


@pytest.mark.parametrize(
    ("kind", "name", "value"), [case for case in CASES if case[0] is not Signal and case[2] is not math.nan]
)
def test_a_value_out_of_range_is_refused_without_a_file_too(kind, name, value):
    with pytest.raises(ConfigError) as caught:
        kind(**{name: value})
    assert caught.value.came.startswith(f"{name} = ")
    assert repr(value) in caught.value.came


WRONG = {"int": ["64", 2.5, True, None, [1]], "float": ["0.1", "fast", True, None, [0.1]], "bool": [1, "yes", None]}


def plain_fields():
    for kind in (STUNetConfig, SRNNConfig, TrainingConfig):
        for name, hint in get_type_hints(kind).items():
            for value in WRONG.get(getattr(hint, "__name__", ""), ["metis", 3, None]):
                yield pytest.param(kind, name, value, id=f"{name}-{value!r}")


@pytest.mark.parametrize(("kind", "name", "value"), list(plain_fields()))
def test_a_value_of_a_wrong_type_is_refused_by_its_name(kind, name, value):
    with pytest.raises(ConfigError) as caught:
        from_mapping(kind, {name: value})
    assert caught.value.came == f"{name} = {value!r}"


@pytest.mark.parametrize(
    "scales", [[2, 2], [[2]], [[2, 2, 2]], [[2, "2"]], [[2, 1.5]], [[True, True]], "22", 2, {"2": 2}]
)
def test_scales_of_another_form_are_refused_by_their_place(scales):
    with pytest.raises(ConfigError, match=r"^model\.scales( \d)* = "):
        from_mapping(RunConfig, {"model": {"scales": scales}})


@pytest.mark.parametrize("name", SIGNAL)
@pytest.mark.parametrize("value", [None, "speed", 1.0, [None, None], [["speed"], ["flow"]]])
def test_signals_of_a_wrong_type_are_refused_by_the_field(name, value):
    with pytest.raises(ConfigError, match=rf"^{name}( 1)? = "):
        from_mapping(Signal, SIGNAL | {name: value})


def test_a_message_names_what_is_allowed():
    with pytest.raises(ConfigError, match="expected one of max, mean;"):
        from_mapping(STUNetConfig, {"pooling": "sum"})
    with pytest.raises(ConfigError, match=r"^training\.epochs = '9'; expected a whole number;"):
        from_mapping(RunConfig, {"training": {"epochs": "9"}})


@pytest.mark.parametrize(
    ("kind", "data", "unknown", "known", "action"),
    [
        (STUNetConfig, {"hiden": 32}, "hiden", "hidden", "write hidden"),
        (RunConfig, {"modell": {}}, "modell", "model", "write model"),
        (RunConfig, {"model": {"hiden": 32}}, "model.hiden", "hidden", "write hidden"),
        (RunConfig, {"training": {"colour": 32}}, "training.colour", "epochs", "correct its name or leave it out"),
        (Signal, SIGNAL | {"median": [1, 2]}, "median", "mean", "write mean"),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones_and_the_nearest(kind, data, unknown, known, action):
    with pytest.raises(ConfigError) as caught:
        from_mapping(kind, data)
    assert caught.value.came == f"unknown key {unknown}"
    assert known in caught.value.expected.removeprefix("keys among ").split(", ")
    assert caught.value.action == action


@pytest.mark.parametrize("name", SIGNAL)
def test_a_missing_field_is_named(name):
    with pytest.raises(ConfigError, match=f"^no {name};"):
        from_mapping(Signal, {key: value for key, value in SIGNAL.items() if key != name})


@pytest.mark.parametrize("data", [{"model": 5}, {"model": [["hidden", 3]]}, {"training": None}])
def test_a_table_must_be_a_table(data):
    (name,) = data
    with pytest.raises(ConfigError, match=rf"^{name} = "):
        from_mapping(RunConfig, data)


@pytest.mark.parametrize(
    "config",
    [
        STUNetConfig(),
        STUNetConfig(scales=((2, 2), (0, 1), (1, 4)), hidden=8, skip=False, fill="mean", time_features="fraction"),
        TrainingConfig(),
        TrainingConfig(regime="window", learning_rate=1.0, average=0.0, weight_decay=0.0),
        RunConfig(STUNetConfig(horizon=3), TrainingConfig(epochs=2), protocol="b"),
        SRNNRunConfig(SRNNConfig(head=(8, 4), edge_embedding=()), TrainingConfig(epochs=2)),
        SRNNConfig(output="classification", classes={"driver": ("left", "right"), "car": ("slow", "fast", "still")}),
        from_mapping(Signal, SIGNAL),
        from_mapping(Signal, SIGNAL | {"targets": ["left", "right"], "target_std": [1, 1], "target_units": ["", ""]}),
        *(STUNetConfig(**changed) for changed in VARIANTS.values()),
    ],
)
def test_json_and_back_gives_an_equal_config_of_the_same_types(config):
    data = json.loads(json.dumps(asdict(config)))  # JSON and TOML know lists, not tuples

    read = from_mapping(type(config), data)

    assert read == config
    assert repr(read) == repr(config)  # 1 == 1.0, but not in a file written next


def test_whole_numbers_may_stand_for_floats():
    assert isinstance(from_mapping(TrainingConfig, {"learning_rate": 1}).learning_rate, float)
    assert all(isinstance(number, float) for number in from_mapping(Signal, SIGNAL).mean)


def test_what_is_left_out_keeps_its_default():
    assert from_mapping(RunConfig, {}) == RunConfig()
    read = from_mapping(RunConfig, {"model": {"scales": [[1, 3]]}})
    assert read.model == STUNetConfig(scales=((1, 3),))
    assert read.training == TrainingConfig()


def test_targets_are_found_among_the_features():
    signal = from_mapping(Signal, SIGNAL | {"targets": ["flow", "speed"]})
    assert signal.target_index == (1, 0)


def test_configs_are_frozen():
    for config in (STUNetConfig(), TrainingConfig(), RunConfig(), from_mapping(Signal, SIGNAL)):
        assert is_dataclass(config)
        with pytest.raises(AttributeError):
            setattr(config, fields(config)[0].name, None)


def test_the_variants_are_the_papers_ablation():
    found = {name: STUNetConfig(**changed) for name, changed in VARIANTS.items()}
    assert {name: config.scales for name, config in found.items()} == {
        "GCGRU": ((0, 1),),
        "T-UNet": ((0, 2),),
        "S-UNet": ((2, 1),),
        "ST-UNet": ((2, 2),),
    }
    assert [name for name, config in found.items() if not config.skip] == ["GCGRU"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fill", {"presence": True}),
        ("classes", {"output": "classification"}),
        ("classes", {"output": "classification", "classes": {"driver": ["left"]}}),
        ("classes", {"output": "classification", "classes": {"driver": ["left", "right", "left"]}}),
        ("decoder", {"output": "classification", "classes": {"a": ["b", "c"]}, "decoder": "recurrent"}),
        ("profile", {"profile": True, "decoder": "recurrent"}),
        ("profile", {"profile": True, "output": "gaussian"}),
    ],
)
def test_settings_that_exclude_each_other_are_refused(name, settings):
    with pytest.raises(ConfigError, match=rf"^{name} = "):
        from_mapping(SRNNConfig, settings)


def test_every_family_has_its_config_file():
    assert {family: type(kind().model) for family, kind in RUN_CONFIGS.items()} == {
        "stunet": STUNetConfig,
        "srnn": SRNNConfig,
    }


def test_targets_of_their_own_have_a_scale_and_a_unit():
    own = {"targets": ["left", "right"], "target_std": [0.5, 1], "target_units": ["", "m"]}
    features, free = from_mapping(Signal, SIGNAL), from_mapping(Signal, SIGNAL | own)

    assert (features.forecasts_features, features.target_scale) == (True, (12.5,))
    assert (free.forecasts_features, free.target_scale) == (False, (0.5, 1.0))
