"""The step of a Structural-RNN against the size of its graph: does it cost as much as there are nodes and edges?

    python -m benchmarks.speed.srnn_cost [--nodes 50 100 200 500 1000 2000 5000] [--rounds 100]

Every graph is a ring in which each node sees the nearest four; the model has its default sizes and random weights, on
which time does not depend. Steps run by ONNX Runtime on one thread, the sizes in turn, so that a slow minute of the
machine meets all of them alike. Beside times stands what no machine can blur: multiplications, values made and bytes
of constants, counted in the step graph. Writes benchmarks/results/srnn_cost.{json,md}.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.harness.random_network import SPEED
from benchmarks.harness.workbench import RESULTS, write_results
from export.cost import graph_cost
from export.step_graph import export_step
from runtime.timing import environment, interleave
from stunet_deploy.config import SRNNConfig
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph

NODES = (50, 100, 200, 500, 1000, 2000, 5000)


def ring(count: int) -> STGraph:
    """Return a ring of sensors, each with four neighbours."""
    nodes = tuple(Node(f"s{node}", "sensor", (node, node + 1)) for node in range(count))
    edges = tuple(Edge(f"s{n}", f"s{(n + step) % count}", "near") for n in range(count) for step in (1, 2))
    return STGraph(("sensor",), (EdgeType("near", ("sensor", "sensor"), mean=True),), nodes, edges, "ring")


def prepare(count: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return a call that takes a step on a ring, and what the step graph costs."""
    graph = ring(count)
    model = StructuralRNN(SRNNConfig(), graph, SPEED).eval()
    proto = export_step(model, {})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    contract, rng = model.contract, np.random.default_rng(count)
    shapes = {spec.name: spec.with_batch(1) for spec in contract.inputs}
    shapes |= {tap.name: tap.state.with_batch(1) for tap in contract.taps}
    feed = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    cost = graph_cost(proto)
    counted = {name: getattr(cost, name) for name in ("multiplications", "values", "constant_bytes")}
    size = {"nodes": count, "edges": len(graph.edges)} | counted
    return lambda: session.run(None, feed), size


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return b of the least-squares fit cost = a · sizeᵇ: 1 where cost is linear."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def report(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    where, rows = result["environment"], result["sizes"]
    lines = [
        "# Cost of a Structural-RNN's step against the size of its graph",
        "",
        "`python -m benchmarks.speed.srnn_cost`: "
        "rings of sensors with four neighbours each, default sizes, random weights; "
        "ONNX Runtime, one thread.",
        "",
        f"{where['cpu']}, {where['cores']} cores, load {where['load']} at the end; Python {where['python']}, "
        f"onnxruntime {where['onnxruntime']}, commit {(where['commit'] or 'unknown')[:12]}.",
        "",
        "| nodes | edges | min ms | median ms | µs per node and edge (min) | multiplications per node and edge | "
        "values per node and edge | constants kB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        total, time = row["nodes"] + row["edges"], row["time"]
        lines.append(
            f"| {row['nodes']} | {row['edges']} | {time['min_us'] / 1000:.2f} | {time['median_us'] / 1000:.2f} | "
            f"{time['min_us'] / total:.2f} | {row['multiplications'] / total:,.0f} | {row['values'] / total:,.0f} | "
            f"{row['constant_bytes'] / 1000:,.0f} |"
        )
    fits = ", ".join(f"{what.replace('_', ' ')} {power:.2f}" for what, power in result["exponents"].items())
    lines += [
        "",
        f"Exponents of cost against nodes + edges, by least squares over all sizes (1 is linear): {fits}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES, help="sizes of the graphs, three at least")
    parser.add_argument("--rounds", type=int, default=100, help="how often each is timed")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    if len(set(options.nodes)) < 3 or min(options.nodes) < 5:
        parser.error("--nodes: name at least three sizes, each of at least 5 nodes")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    prepared = {str(count): prepare(count) for count in sorted(set(options.nodes))}
    samples = interleave({name: call for name, (call, _) in prepared.items()}, options.rounds)
    rows = [
        size
        | {
            "time": samples[name].summary(),
            "samples_us": (samples[name].nanoseconds / 1000).round(1).tolist(),
        }
        for name, (_, size) in prepared.items()
    ]
    totals = [row["nodes"] + row["edges"] for row in rows]
    counted = {what: exponent(totals, [row[what] for row in rows]) for what in ("multiplications", "values")}
    timed = {
        f"{what} time": exponent(totals, [row["time"][f"{what}_us"] for row in rows]) for what in ("min", "median")
    }
    half = len(rows) // 2  # small steps cost mostly what every operator costs to start
    timed["min time of the larger half"] = exponent(totals[half:], [row["time"]["min_us"] for row in rows[half:]])
    result = {
        "model": asdict(SRNNConfig()),
        "environment": environment() | {"torch": torch.__version__},
        "sizes": rows,
        "exponents": timed | counted,
    }
    text = report(result)
    write_results(options.out, "srnn_cost", result, text)
    print(text)


if __name__ == "__main__":
    main()
