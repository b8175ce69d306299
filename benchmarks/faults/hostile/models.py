"""Hostile configs, checkpoints and bundles."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.faults.hostile.arrays import MEBIBYTE, Zeros, write_npz
from benchmarks.faults.hostile.kinds import START_S, Kind, Maker, Place, Words, cut_off, train
from benchmarks.harness.networks import invented_checkpoint
from export.bundle import export_bundle
from stunet_deploy.files import sha256
from stunet_deploy.manifest import Manifest, sealed


def good_files(folder: Path) -> None:
    """Write the files with which nothing is wrong."""
    rows = [f"{START_S + 300 * row},{50 + row % 7},{40 + row % 5},{60 + row % 3},30" for row in range(600)]
    (folder / "speeds.csv").write_text("\n".join(["time,s0,s1,s2,s3", *rows, ""]))
    (folder / "graph.csv").write_text("from,to,weight\ns0,s1,0.5\ns1,s2,0.5\ns2,s3,0.5\n")
    checkpoint = invented_checkpoint(6, 4, 40)
    checkpoint.save(folder / "model.pt")
    export_bundle(checkpoint, folder / "model.bundle")


def config(content: Callable[[Place], str]) -> Maker:
    """Return the maker of a config to train with."""
    return lambda place: train(place, config=place.write("run.toml", content(place)))


def setting(table: str, name: str, value: object) -> Kind:
    """Return the kind of a config with an absurd setting."""
    return Kind(f"a config of {name} = {value}", config(lambda _: f"[{table}]\n{name} = {value}\n"))


def st_graph(text: str) -> Maker:
    """Return the maker of an st-graph of very many nodes."""
    head = 'node_types = ["a"]\n[[nodes]]\nname = "n"\ntype = "a"\nslice = [0, 1]\n'
    return lambda place: ["inspect", str(place.write("body.toml", head + text))]


def checkpoint(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Maker:
    """Return the maker of a model.pt with something changed in it: its content, or the JSON in it."""

    def make(place: Place) -> Words:
        content = torch.load(place.good / "model.pt", weights_only=True)
        meta = json.loads(content["meta"])
        change(content, meta)
        torch.save(content | {"meta": json.dumps(meta)}, place.folder / "model.pt")
        return ["inspect", str(place.folder / "model.pt")]

    return make


def absurd(name: str, value: Any) -> Kind:
    """Return the kind of a model.pt with an absurd setting."""
    make = checkpoint(lambda _, meta: meta["config"].update({name: value}))
    return Kind(f"a model.pt of {name} = {value!r:.20}", make)


def packed(place: Place) -> Words:
    """Write a model.pt whose weights unpack to a thousand times their size."""
    path = place.folder / "model.pt"
    with zipfile.ZipFile(place.good / "model.pt") as good, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bad:
        for member in good.namelist():
            if not member.endswith("data/0"):
                bad.writestr(member, good.read(member))
                continue
            with bad.open(member, "w", force_zip64=True) as file:
                for _ in range(place.size(640, 1000)):
                    file.write(bytes(MEBIBYTE))
    return ["inspect", str(path)]


def stretched_weight(content: dict[str, Any], _: dict[str, Any]) -> None:
    """Let a tensor of one number claim to be very many."""
    content["weights"][next(iter(content["weights"]))] = torch.zeros(1).expand(10**6, 10**6)


def stretched_stream(content: dict[str, Any], _: dict[str, Any]) -> None:
    """Let the reference stream claim to last for ages."""
    content["stream"]["values"] = torch.zeros(1).expand(10**9, 6, 1)
    content["stream"]["observed"] = torch.ones(1, dtype=torch.bool).expand(10**9, 6, 1)
    content["stream"]["timestamps"] = torch.zeros(1, dtype=torch.int64).expand(10**9)


def bundle(change: Callable[[dict[str, Any]], object], verb: str = "verify") -> Maker:
    """Return the maker of a bundle whose manifest is absurd."""
    return whole_bundle(lambda _: None, change, verb)


def whole_bundle(
    alter: Callable[[Path], object], change: Callable[[dict[str, Any]], object] = lambda _: None, verb: str = "verify"
) -> Maker:
    """Return the maker of a bundle that agrees with its own hashes after a file of it was altered."""

    def make(place: Place) -> Words:
        folder = place.folder / "model.bundle"
        folder.mkdir()
        for path in (place.good / "model.bundle").iterdir():
            if path.is_file():
                (folder / path.name).write_bytes(path.read_bytes())
        alter(folder)
        data = json.loads((folder / "manifest.json").read_text())
        data["files"] = {name: sha256((folder / name).read_bytes()) for name in data["files"]}
        data["bundle_id"] = Manifest.from_json(sealed(data)).identity((folder / "step.onnx").read_bytes())
        change(data)
        (folder / "manifest.json").write_text(sealed(data))
        return [verb, str(folder), *(["--replay", str(place.good / "speeds.csv")] if verb == "run" else [])]

    return make


def fact(name: str, value: Any, verb: str = "inspect") -> Kind:
    """Return the kind of a bundle with an absurd fact in its manifest."""
    return Kind(f"a bundle of {name} = {value!r:.20}, {verb}", bundle(lambda data: data.update({name: value}), verb))


def states(name: str, value: Any) -> Kind:
    """Return the kind of a bundle whose states are absurd."""

    def change(data: dict[str, Any]) -> None:
        for state in data["contract"]["states"]:
            if name == "length":
                state["shape"][-1] = value
            else:
                state[name] = value
                state["taps"] = [state["delay"]]

    return Kind(f"a bundle with states of {name} {value}", bundle(change))


def cut(name: str) -> Callable[[Path], None]:
    """Return what cuts a file of a bundle off."""
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def golden_of_zeros(folder: Path) -> None:
    """Let the golden stream unpack to a thousand times its size."""
    with np.load(folder / "golden.npz") as loaded:
        content = dict(loaded)
    write_npz(folder / "golden.npz", content | {"values": Zeros((160 << 20, 1, 1), "<f4")})


def manifest(content: Callable[[Place], str]) -> Maker:
    """Return the maker of a folder with a manifest alone."""

    def make(place: Place) -> Words:
        place.write("manifest.json", content(place))
        return ["verify", str(place.folder)]

    return make


KINDS = (
    Kind("a config of brackets in brackets", config(lambda _: "a = " + "[" * 100_000)),
    Kind("a config of tables in tables", config(lambda place: "[" + "a." * place.size(20_000, 2 * 10**6) + "a]")),
    Kind("a config of a number of very many digits", config(lambda _: "[model]\nhidden = " + "9" * 10_000)),
    Kind("a config as large as a recording", config(lambda place: "# x\n" * place.size(2 * 10**6, 10**8))),
    Kind("a config of control characters", config(lambda _: "\0\1\2" * 1000)),
    *(
        setting("model", name, 10**9)
        for name in ("horizon", "hidden", "window", "lags", "members", "head", "harmonics", "chebyshev_order")
    ),
    *(setting("model", "scales", value) for value in ([[10**9, 1]], [[1, 10**9]], [[0, 1]] * 100)),
    *(setting("training", name, 10**9) for name in ("batch", "chunk", "warm_up", "threads")),
    Kind(
        "types of sensors that never end",
        lambda place: train(place, model="srnn", types=place.write("types.csv", "sensor_id,type\n" + "x" * 10**6)),
    ),
    Kind("an st-graph of very many nodes", st_graph("count = 1000000000\n")),
    Kind(
        "an st-graph joined completely",
        st_graph('count = 20000\n[[edge_types]]\nname = "e"\nbetween = ["a", "a"]\ncomplete = true\n'),
    ),
    *(absurd(name, 10**9) for name in ("horizon", "hidden", "head", "members", "lags", "window", "harmonics")),
    *(absurd("scales", value) for value in ([[0, 10**9]], [[0, 1]] * 10**5)),
    *(absurd(name, value) for name, value in (("horizon", 9000), ("hidden", 4000), ("members", 60))),
    Kind("a model.pt that unpacks to gigabytes", packed),
    Kind("a model.pt of a stretched weight", checkpoint(stretched_weight)),
    Kind("a model.pt of a stretched recording", checkpoint(stretched_stream)),
    Kind("a model.pt without weights", checkpoint(lambda content, _: content.update(weights={}))),
    Kind("a model.pt whose weights are text", checkpoint(lambda content, _: content.update(weights="none"))),
    Kind("a model.pt of an endless interval", checkpoint(lambda _, meta: meta["site"].update(interval_s=10**30))),
    Kind("a model.pt cut off", cut_off(checkpoint(lambda content, meta: None), "model.pt")),
    Kind("a manifest of brackets in brackets", manifest(lambda _: "[" * 100_000)),
    Kind("a manifest that is a number", manifest(lambda _: "1" * 10_000)),
    Kind("a manifest that is a list", manifest(lambda _: "[1, 2]")),
    Kind("a manifest as large as a recording", manifest(lambda place: '{"x": "' + "x" * place.size(1 << 26, 1 << 30))),
    *(fact("horizon", 10**9, verb) for verb in ("inspect", "verify", "run")),
    *(fact("horizon", 13, verb) for verb in ("verify", "run")),
    fact("horizon", "twelve"),
    fact("window", 10**12),
    fact("interval_s", 10**30),
    fact("interval_s", 0),
    fact("phase_s", "x"),
    fact("limits", []),
    fact("mean", [1, 2, 3]),
    fact("tolerance", []),
    fact("targets", ["nothing"]),
    fact("timezone", "Mars/Base"),
    fact("files", {"step.onnx": 5}),
    fact("files", {"step.onnx": "0" * 64}),
    fact("parity", []),
    fact("sensor_ids", "abcdef"),
    states("delay", 10**9),
    states("length", 10**12),
    states("dtype", "float99"),
    Kind("a bundle of a step that is cut off", whole_bundle(cut("step.onnx"))),
    Kind("a bundle of a golden stream that is cut off", whole_bundle(cut("golden.npz"))),
    Kind("a bundle of a golden stream of gigabytes", whole_bundle(golden_of_zeros)),
)
